"""The servers in docs/calling.md, which check their callers live or take the edge's word."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import grpc
import httpx
import pytest
from fastapi import Depends, FastAPI
from grpc import StatusCode, aio
from killrvideo.user.v1.user_service_pb2 import LogoutRequest

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.services import Grant
from tests.rpc.conftest import Account, Stub
from tests.rpc.test_docs import run
from tests.support.calls import bearer
from tests.support.ports import free_port
from tests.support.services import added_to_file

Headers = dict[str, str]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return run("docs/calling.md")


@pytest.fixture(scope="module")
def checker(settings: Settings) -> str:
    return added_to_file(settings.sqlite_path, Grant.CHECK_TOKENS)


@asynccontextmanager
async def live_tokens(example: dict[str, Any], target: str, checker: str) -> AsyncIterator[Any]:
    """Provide the example's LiveTokens, which remembers nothing."""
    async with aio.insecure_channel(target) as channel:
        yield example["LiveTokens"](Stub(channel), checker, seconds=0)


@asynccontextmanager
async def fastapi(caller: Callable[..., Any], live: Any = None) -> AsyncIterator[Callable[[Headers], Awaitable[Any]]]:
    """Run an app that answers with its caller, as a dependency of the docs finds it."""
    app = FastAPI()
    app.state.live = live

    @app.get("/caller")
    def named(user_id: Annotated[str, Depends(caller)]) -> str:
        return user_id

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sibling") as client:
        yield lambda headers: client.get("/caller", headers=headers)


def authorization(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


def test_a_live_check_in_fastapi(example: dict[str, Any], account: Account, checker: str, grpc_addr: str) -> None:
    async def work() -> list[Any]:
        async with live_tokens(example, grpc_addr, checker) as live, fastapi(example["live"], live) as get:
            callers = [{}, authorization("forged"), authorization(account.login.token)]
            answers = [await get(headers) for headers in callers]
            account.stub.Logout(LogoutRequest(), metadata=account.metadata)
            answers.append(await get(authorization(account.login.token)))
        nowhere = f"127.0.0.1:{free_port()}"
        async with live_tokens(example, nowhere, checker) as live, fastapi(example["live"], live) as get:
            answers.append(await get(authorization(account.login.token)))
        return answers

    missing, forged, good, ended, unknown = asyncio.run(work())
    assert (good.status_code, good.json()) == (200, account.user_id)
    for answer in (missing, forged, ended):
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert unknown.status_code == 503


def test_identity_from_the_edge_in_fastapi(example: dict[str, Any]) -> None:
    async def work() -> list[Any]:
        async with fastapi(example["behind_edge"]) as get:
            return [await get({}), await get({"x-user-id": "ann", "x-user-roles": "viewer"})]

    nobody, known = asyncio.run(work())
    assert nobody.status_code == 401
    assert (known.status_code, known.json()) == (200, "ann")


@asynccontextmanager
async def grpc_server(example: dict[str, Any], live: Any) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Run a server with the interceptor of the docs, whose methods answer with their caller."""

    async def named(_request: bytes, _context: Any) -> bytes:
        user_id: str = example["CALLER"].get().user_id
        return user_id.encode()

    server = aio.server(interceptors=[example["KnownCallers"](live)])
    handlers: dict[str, Any] = {"Name": grpc.unary_unary_rpc_method_handler(named)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("sibling.Callers", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        name: Any = channel.unary_unary("/sibling.Callers/Name")

        async def call(*metadata: tuple[str, str]) -> str | StatusCode:
            try:
                answer: bytes = await name(b"", metadata=metadata, timeout=20)
            except aio.AioRpcError as error:
                return error.code()
            return answer.decode()

        yield call
    await server.stop(None)


def test_a_live_check_in_a_grpc_server(example: dict[str, Any], account: Account, checker: str, grpc_addr: str) -> None:
    async def work() -> list[Any]:
        async with live_tokens(example, grpc_addr, checker) as live, grpc_server(example, live) as call:
            answers = [await call(), await call(*bearer("forged")), await call(*account.metadata)]
            answers += await asyncio.gather(call(*account.metadata), call(*account.other.metadata))
        nowhere = f"127.0.0.1:{free_port()}"
        async with live_tokens(example, nowhere, checker) as live, grpc_server(example, live) as call:
            return [*answers, await call(*account.metadata)]

    refused, ids = StatusCode.UNAUTHENTICATED, [account.user_id, account.user_id, account.other.user_id]
    assert asyncio.run(work()) == [refused, refused, *ids, StatusCode.UNAVAILABLE]
