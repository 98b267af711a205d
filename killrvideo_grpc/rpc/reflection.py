"""Server reflection under both of its names: older grpcurls ask for v1alpha, newer ones for v1."""

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
    """Serves reflection for `services` and for itself."""
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
    """The default pool, for a reflection servicer. Finds methods too, which reflection has to know."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 # the pool's name
        """Returns the file with this symbol. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def service_descriptors() -> list[Any]:
    """Describes the reflection services, for the table of who may call what."""
    # grpcio-reflection has no v1. Its messages are those of v1alpha under another package, the same on the wire.
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    pool = descriptor_pool.Default()
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
    return [pool.FindServiceByName(name) for name in (V1ALPHA, V1)]
