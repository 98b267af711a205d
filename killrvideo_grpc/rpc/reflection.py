"""Server reflection under both names: older versions of grpcurl use v1alpha, newer ones v1."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from killrvideo_grpc.rpc.call import Context

V1ALPHA = reflection.SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")


def add_reflection(server: aio.Server, services: Sequence[str]) -> None:
    """Serve reflection for `services` and for itself."""
    servicer: Any = reflection.aio.ReflectionServicer([*services, V1ALPHA, V1], _Symbols())

    async def answer(requests: AsyncIterator[Any], context: Context) -> None:
        async for response in servicer.ServerReflectionInfo(requests, context):
            await context.write(response)

    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1ALPHA, V1):
        generic: Any = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((generic,))


class _Symbols:
    """The default descriptor pool, extended to find methods, as the reflection protocol requires."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 # the pool's name
        """Return the file that defines the symbol. Raise KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def service_descriptors() -> list[Any]:
    """Return the descriptors of the reflection services, for the access table."""
    # grpcio-reflection lacks v1, whose messages are those of v1alpha in another package.
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    pool = descriptor_pool.Default()
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
    return [pool.FindServiceByName(name) for name in (V1ALPHA, V1)]
