"""The commands that help owners, beside two processes, on SQLite and on a Data API."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import ChangeEmailRequest, LoginResponse, ResetPasswordRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.e2e.callers import access, bearer, log_in, outcome
from tests.e2e.conftest import KEYSPACES
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.eventually import eventually
from tests.support.process import astra, run, running

if TYPE_CHECKING:
    import subprocess

NEW = "another password"
# For what the store suite checks on every store, and the command does alike on each.
on_sqlite = pytest.mark.parametrize("service", ["sqlite"], indirect=True)


@dataclass
class Service:
    """Two processes on one store, and the settings of both."""

    stubs: list[UserServiceStub]
    folder: Path
    settings: dict[str, str]

    def accounts(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `killrvideo-grpc accounts`."""
        return run(self.folder, "accounts", *arguments, **self.settings)

    def code_for(self, email: str) -> str:
        """Return a reset code, which is alone on standard output."""
        done = self.accounts("reset-password", email)
        assert done.returncode == 0, done.stderr
        code, end = done.stdout[:-1], done.stdout[-1:]
        assert end == "\n"
        assert code.partition(".")[2] not in done.stderr
        return code

    def join(self) -> str:
        email = an_address()
        self.stubs[0].Register(registration(email))
        return email

    def reset(self, code: str, password: str, process: int = 0) -> LoginResponse:
        return self.stubs[process].ResetPassword(ResetPasswordRequest(code=code, new_password=password))


@pytest.fixture(scope="module", params=["sqlite", *KEYSPACES])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("recovery")
    with ExitStack() as stack:
        settings = {"MAX_FAILURES_PER_ACCOUNT_AND_SOURCE": "3"}
        if request.param != "sqlite":
            settings |= astra(stack.enter_context(KEYSPACES[request.param]()))
        services = [stack.enter_context(running(folder, **settings)) for _ in range(2)]
        channels = [stack.enter_context(grpc.insecure_channel(service.target)) for service in services]
        yield Service([UserServiceStub(channel) for channel in channels], folder, settings)


def test_a_forgotten_password_is_reset_once(service: Service) -> None:
    email = service.join()
    old = log_in(service.stubs[0], email)
    older, code = service.code_for(email), service.code_for(email.upper())
    assert outcome(lambda: service.reset(older, NEW)) == "INVALID_RESET_CODE"
    assert outcome(lambda: service.reset(code, "short")) == "VALIDATION_FAILED"
    assert access(service.stubs[1], old) == "OK"
    with ThreadPoolExecutor(16) as pool:
        calls = [partial(service.reset, code, f"{NEW} {n}", n % 2) for n in range(16)]
        resets = [pool.submit(outcome, call) for call in calls]
        outcomes = [reset.result() for reset in resets]
    assert sorted(outcomes) == [*["INVALID_RESET_CODE"] * 15, "OK"]
    assert access(service.stubs[1], old) == "SESSION_ENDED"
    log_in(service.stubs[1], email, f"{NEW} {outcomes.index('OK')}")


def test_a_new_address_takes_over(service: Service) -> None:
    email, address = service.join(), an_address()
    login = log_in(service.stubs[0], email)
    code = service.code_for(email)
    request = ChangeEmailRequest(password=PASSWORD, new_email=address)
    assert service.stubs[1].ChangeEmail(request, metadata=bearer(login)).email == address
    assert outcome(lambda: service.reset(code, NEW)) == "INVALID_RESET_CODE"
    service.stubs[0].Register(registration(email))
    assert outcome(lambda: service.stubs[0].Register(registration(address))) == "EMAIL_ALREADY_REGISTERED"
    for stub in service.stubs:
        assert log_in(stub, address).user.user_id == login.user.user_id
        assert log_in(stub, email).user.user_id != login.user.user_id
        assert access(stub, login) == "OK"


def test_an_account_is_unblocked_in_every_process(service: Service) -> None:
    email = service.join()
    code = service.code_for(email)
    service.reset(code, NEW)
    for _ in range(3):
        assert outcome(lambda: log_in(service.stubs[0], email, "wrong")) == "INVALID_CREDENTIALS"
    for stub in service.stubs:
        assert outcome(lambda: log_in(stub, email, NEW)) == "TOO_MANY_ATTEMPTS"  # noqa: B023 # called at once
    assert service.accounts("unblock", email).returncode == 0
    for stub in service.stubs:
        eventually(lambda: outcome(lambda: log_in(stub, email, NEW)) == "OK", seconds=10)  # noqa: B023 # called at once


@on_sqlite
def test_codes_are_limited_and_unblocking_lifts_that(service: Service) -> None:
    email = service.join()
    for _ in range(5):
        service.code_for(email)
    refused = service.accounts("reset-password", email)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Try again in" in refused.stderr
    assert service.accounts("unblock", email).returncode == 0
    service.code_for(email)


def test_an_account_is_deleted_without_a_question(service: Service) -> None:
    email = service.join()
    login = log_in(service.stubs[0], email)
    done = service.accounts("delete", email, "--reason", "erasure request")
    assert (done.returncode, done.stdout) == (0, f"Deleted the account {login.user.user_id}.\n")
    assert access(service.stubs[1], login) == "USER_NOT_FOUND"
    again = service.accounts("delete", login.user.user_id, "--reason", "erasure request")
    assert (again.returncode, again.stdout) == (1, "")
    assert "No account has this e-mail address or id in" in again.stderr
    service.stubs[1].Register(registration(email))


@on_sqlite
def test_the_last_moderator_is_deleted_by_force_only(service: Service) -> None:
    email = service.join()
    assert run(service.folder, "roles", "assign", email, "moderator", **service.settings).returncode == 0
    service.reset(service.code_for(email), NEW)  # operators may reset a moderator's password
    refused = service.accounts("delete", email, "--reason", "left")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the last moderator" in refused.stderr
    user_id = log_in(service.stubs[0], email, NEW).user.user_id
    assert service.accounts("delete", user_id, "--reason", "left", "--force").returncode == 0
