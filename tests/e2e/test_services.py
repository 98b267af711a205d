"""Services as an operator manages them, on two processes and every store."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from killrvideo.user.v1.user_service_pb2 import BatchGetUsersRequest, CheckTokensRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.cli.services import services
from tests.e2e.callers import log_in, outcome, processes
from tests.e2e.conftest import KEYSPACES
from tests.support.accounts import an_address
from tests.support.calls import bearer, registration
from tests.support.eventually import eventually
from tests.support.process import astra, run
from tests.support.services import a_name

Run = Callable[..., Any]


@pytest.fixture(scope="module", params=["sqlite", *KEYSPACES])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[UserServiceStub], Run, Path]]:
    """Two processes on one database, `killrvideo-grpc services` for it, and the folder of the log."""
    folder = tmp_path_factory.mktemp("services")
    with ExitStack() as stack:
        keyspace = stack.enter_context(KEYSPACES[request.param]()) if request.param in KEYSPACES else None
        settings = astra(keyspace) if keyspace else {}
        stubs = stack.enter_context(processes(folder, keyspace, 2, LOG_FORMAT="json"))
        yield stubs, lambda *arguments: run(folder, "services", *arguments, **settings), folder


def made(done: Any) -> str:
    """Return the token, which must be all that a command printed."""
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"kvs_[a-z0-9-]+_[0-9a-f]{64}\n", done.stdout)
    return str(done.stdout.strip())


def check(stub: UserServiceStub, token: str, *tokens: str) -> str:
    request = CheckTokensRequest(tokens=tokens or ["x"])
    return outcome(lambda: stub.CheckTokens(request, metadata=bearer(token), timeout=20))


def test_the_life_of_a_service(site: tuple[list[UserServiceStub], Run, Path]) -> None:
    stubs, command, folder = site
    name, email = a_name(), an_address()
    user_id = stubs[0].Register(registration(email)).user_id
    first = made(command("add", name, "--grant", "check_tokens", "--grant", "read_profiles"))
    for stub in stubs:
        assert check(stub, first) == "OK"
        profiles = stub.BatchGetUsers(BatchGetUsersRequest(user_ids=[user_id]), metadata=bearer(first))
        assert [user.user_id for user in profiles.users] == [user_id]
    (result,) = (
        stubs[0].CheckTokens(CheckTokensRequest(tokens=[log_in(stubs[1], email).token]), metadata=bearer(first)).results
    )
    assert (result.active, result.user_id) == (True, user_id)
    kept = command("rotate", name, "--drop-old")
    assert (kept.returncode, kept.stdout) == (0, "")
    assert f"{name} has one token" in kept.stderr
    second = made(command("rotate", name))
    assert [check(stub, token) for stub in stubs for token in (first, second)] == ["OK"] * 4
    listed = next(line for line in command("list").stdout.splitlines() if line.startswith(f"{name}\t"))
    assert re.fullmatch(rf"{name}\tcheck_tokens,read_profiles\t(\d{{4}}-\d\d-\d\dT[\d:]+\+00:00,?){{2}}", listed)
    assert "kvs_" not in listed
    done = command("rotate", name, "--drop-old")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    refused_within_ten_seconds(stubs, first)
    assert [check(stub, second) for stub in stubs] == ["OK"] * 2
    assert command("remove", name).returncode == 0
    refused_within_ten_seconds(stubs, second)
    log = (folder / "service.log").read_text()
    assert f'"actor":"service:{name}"' in log
    assert first not in log
    assert second not in log


def refused_within_ten_seconds(stubs: list[UserServiceStub], token: str) -> None:
    started = time.monotonic()
    for stub in stubs:
        eventually(lambda: check(stub, token) == "TOKEN_INVALID")  # noqa: B023 # called at once
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_what_is_refused(site: tuple[list[UserServiceStub], Run, Path]) -> None:
    _, command, _ = site
    name = a_name()
    made(command("add", name, "--grant", "reset_passwords"))
    for arguments, message in (
        (["add", name, "--grant", "check_tokens"], f"There is a service {name} already"),
        (["remove", "nobody"], "There is no service nobody."),
    ):
        done = command(*arguments)
        assert (done.returncode != 0, done.stdout) == (True, ""), arguments
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    made(command("rotate", name))
    assert f"{name} has two tokens already" in command("rotate", name).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "Upper", "--grant", "check_tokens"], "must have 1 to 31 characters"),
        (["add", "x" * 32, "--grant", "check_tokens"], "must have 1 to 31 characters"),
        (["add", "a_b", "--grant", "check_tokens"], "must have 1 to 31 characters"),
        (["rotate", ""], "must have 1 to 31 characters"),
        (["add", "fine", "--grant", "everything"], "'everything' is not one of"),
        (["add", "fine"], "Missing option '--grant'"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(services, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_help_warns_of_the_power_over_passwords() -> None:
    done = CliRunner().invoke(services, ["add", "--help"])
    assert re.search(r"reset_passwords +CreatePasswordReset: power over every account except moderators'", done.stdout)
