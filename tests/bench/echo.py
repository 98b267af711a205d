"""A bare grpcio server that answers every GetMe with the same User (given in hex), for comparison with the service.

`python -m tests.bench.echo sync USER` serves on a thread pool, `aio` on an event loop, uvloop if it is installed.
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
from killrvideo.user.v1 import user_pb2, user_service_pb2

THREADS = 8
SERVICE = "killrvideo.user.v1.UserService"
ADDRESS = "127.0.0.1:0"
OPTIONS = [("grpc.so_reuseport", 0)]


def serve(user: user_pb2.User) -> None:
    """Serves on a thread pool."""

    def get_me(request: user_service_pb2.GetMeRequest, context: grpc.ServicerContext) -> user_pb2.User:
        return user

    server = grpc.server(ThreadPoolExecutor(THREADS), [_handlers(get_me)], options=OPTIONS)
    port = server.add_insecure_port(ADDRESS)
    server.start()
    _announce(port)
    server.wait_for_termination()


async def serve_on_loop(user: user_pb2.User) -> None:
    """Serves on the event loop."""

    async def get_me(request: user_service_pb2.GetMeRequest, context: Any) -> user_pb2.User:
        return user

    server = grpc.aio.server(handlers=[_handlers(get_me)], options=OPTIONS)
    port = server.add_insecure_port(ADDRESS)
    await server.start()
    _announce(port)
    await server.wait_for_termination()


def loop_name() -> str:
    """Returns the name of the asyncio server's event loop."""
    return "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"


def main() -> None:
    kind, user = sys.argv[1], user_pb2.User.FromString(bytes.fromhex(sys.argv[2]))
    if kind == "sync":
        serve(user)
    else:
        with asyncio.Runner(loop_factory=importlib.import_module(loop_name()).new_event_loop) as runner:
            runner.run(serve_on_loop(user))


def _handlers(get_me: Any) -> grpc.GenericRpcHandler:
    read, write = user_service_pb2.GetMeRequest.FromString, user_pb2.User.SerializeToString
    methods = {"GetMe": grpc.unary_unary_rpc_method_handler(get_me, read, write)}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _announce(port: int) -> None:
    sys.stdout.write(f"echo on 127.0.0.1:{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
