"""Server reflection under both of its names: old grpcurls ask v1alpha, newer ones v1."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

from killrvideo_grpc.rpc.arrivals import Arrivals
from killrvideo_grpc.rpc.interceptors.pools import run_in

V1ALPHA = reflection.SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")


def add_reflection(server: grpc.Server, services: Sequence[str], pool: ThreadPoolExecutor, arrivals: Arrivals) -> None:
    """Serves reflection for `services` and itself on the threads of `pool`: each stream keeps one while it lasts."""
    servicer = reflection.ReflectionServicer([*services, V1ALPHA, V1])

    def answer(requests: Any, context: grpc.ServicerContext) -> Any:
        return servicer.ServerReflectionInfo(arrivals.all(requests, context), context)

    handler = grpc.stream_stream_rpc_method_handler(
        run_in(pool, answer),
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1ALPHA, V1):
        generic: Any = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((generic,))


def service_descriptors() -> list[Any]:
    """Describes the reflection services, for the table of who may call what."""
    # grpcio-reflection has no v1. Its messages are those of v1alpha under another package, on the wire the same.
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    pool = descriptor_pool.Default()
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
    return [pool.FindServiceByName(name) for name in (V1ALPHA, V1)]
