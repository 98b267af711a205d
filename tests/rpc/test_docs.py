"""The Python in the README and in docs/calling.md, run against the service."""

import asyncio
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc import aio
from killrvideo.user.v1.user_service_pb2 import LogoutRequest

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.services import Grant
from tests.rpc.conftest import Account, Stub
from tests.support.services import added_to_file

ROOT = Path(__file__).parents[2]


def run(file: str, replaced: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the Python of a document, and return the names that it defines."""
    code = "\n\n".join(re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL))
    for old, new in (replaced or {}).items():
        assert old in code
        code = code.replace(old, new)
    assert code
    names: dict[str, Any] = {}
    exec(compile(code, file, "exec"), names)
    return names


@pytest.fixture
def example() -> dict[str, Any]:
    return run("docs/calling.md")


def test_a_first_call(account: Account, grpc_addr: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        "README.md", {"127.0.0.1:50051": grpc_addr, "ann@example.org": account.email, "correct horse": account.password}
    )
    assert "Hello Ann, you are viewer." in capsys.readouterr().out.splitlines()


def test_names_of_more_authors_than_a_call_takes(example: dict[str, Any], account: Account, grpc_addr: str) -> None:
    ids = [account.user_id, *(str(uuid4()) for _ in range(250)), account.other.user_id, account.user_id]
    with grpc.insecure_channel(grpc_addr) as channel:
        found = example["profiles"](channel, account.login.token, ids)
    assert found.keys() == {account.user_id, account.other.user_id}
    assert found[account.user_id].first_name == "Ann"


def test_names_for_a_service(example: dict[str, Any], account: Account, settings: Settings, grpc_addr: str) -> None:
    token = added_to_file(settings.sqlite_path, Grant.READ_PROFILES)
    with grpc.insecure_channel(grpc_addr) as channel:
        assert example["profiles"](channel, token, [account.user_id]).keys() == {account.user_id}


class CountingStub:
    """A stub that counts its calls, and the tokens in them."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.sizes: list[int] = []

    def CheckTokens(self, request: Any, **options: Any) -> Any:  # noqa: N802 # the RPC's name
        self.sizes.append(len(request.tokens))
        return self._stub.CheckTokens(request, **options)


def synchronous() -> Any:
    """Return the class of the example as its comment says, for a synchronous channel."""
    return run("docs/calling.md", {"async def": "def", "await ": ""})["LiveTokens"]


def test_live_tokens_are_remembered_for_a_while_and_checked_again_together(
    account: Account, settings: Settings, grpc_addr: str
) -> None:
    checker = added_to_file(settings.sqlite_path, Grant.CHECK_TOKENS)
    logins = [account.login, *(account.log_in() for _ in range(15))]
    with grpc.insecure_channel(grpc_addr) as channel:
        stub = CountingStub(Stub(channel))
        live = synchronous()(stub, checker)
        for _ in range(3):
            assert all(live.check(login.token).user_id == account.user_id for login in logins)
        assert stub.sizes == [1] * 16
        assert not live.check("forged").active
        eager = synchronous()(stub, checker, seconds=0)
        assert all(eager.check(login.token).active for login in logins)
        stub.sizes.clear()
        account.stub.Logout(LogoutRequest(), metadata=account.metadata)
        assert eager.check(account.login.token).reason == "SESSION_ENDED"
        assert live.check(account.login.token).active  # until ten seconds have passed
        assert eager.check(logins[1].token).active
        assert stub.sizes == [16, 15]


def test_live_tokens_on_an_event_loop(
    example: dict[str, Any], account: Account, settings: Settings, grpc_addr: str
) -> None:
    checker = added_to_file(settings.sqlite_path, Grant.CHECK_TOKENS)

    async def work() -> list[str]:
        async with aio.insecure_channel(grpc_addr) as channel:
            live = example["LiveTokens"](Stub(channel), checker)
            return [(await live.check(token)).user_id for token in (account.login.token, "x", account.login.token)]

    assert asyncio.run(work()) == [account.user_id, "", account.user_id]


def test_who_is_logged_in(example: dict[str, Any], account: Account, grpc_addr: str) -> None:
    with grpc.insecure_channel(grpc_addr) as channel:
        found = example["caller"](channel, account.login.token)
        assert (found.user_id, list(found.roles), found.account_status) == (account.user_id, ["viewer"], "active")
        assert example["caller"](channel, "no token") is None
