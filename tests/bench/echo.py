"""A bare grpcio server that answers all calls of a method with the same message, for comparison with the service.

`python -m tests.bench.echo sync GetMe HEX` serves on a thread pool, `aio` on an event loop, uvloop if it is installed.
Prints its address on one line and runs until it is ended.
"""

import asyncio
import importlib
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.message import Message
from killrvideo.user.v1 import user_service_pb2

THREADS = 8
SERVICE = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
ADDRESS = "127.0.0.1:0"
OPTIONS = [("grpc.so_reuseport", 0)]


def serve(method: str, response: bytes) -> None:
    """Serves on a thread pool."""
    read, write, message = _types(method, response)

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        return message

    handler = grpc.unary_unary_rpc_method_handler(answer, read, write)
    server = grpc.server(ThreadPoolExecutor(THREADS), [_service(method, handler)], options=OPTIONS)
    port = server.add_insecure_port(ADDRESS)
    server.start()
    _announce(port)
    server.wait_for_termination()


async def serve_on_loop(method: str, response: bytes) -> None:
    """Serves on the event loop."""
    read, write, message = _types(method, response)

    async def answer(request: Message, context: Any) -> Message:
        return message

    handler = grpc.unary_unary_rpc_method_handler(answer, read, write)
    server = grpc.aio.server(handlers=[_service(method, handler)], options=OPTIONS)
    port = server.add_insecure_port(ADDRESS)
    await server.start()
    _announce(port)
    await server.wait_for_termination()


def loop_name() -> str:
    """Return the name of the asyncio server's event loop."""
    return "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"


def main() -> None:
    kind, method, response = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
    if kind == "sync":
        serve(method, response)
    else:
        with asyncio.Runner(loop_factory=importlib.import_module(loop_name()).new_event_loop) as runner:
            runner.run(serve_on_loop(method, response))


def _types(method: str, response: bytes) -> tuple[Any, Any, Message]:
    """Return how to read a request and write a response, and the response."""
    described = SERVICE.methods_by_name[method]
    request_type, response_type = map(message_factory.GetMessageClass, (described.input_type, described.output_type))
    return request_type.FromString, response_type.SerializeToString, response_type.FromString(response)


def _service(method: str, handler: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(SERVICE.full_name, {method: handler})


def _announce(port: int) -> None:
    sys.stdout.write(f"echo on 127.0.0.1:{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
