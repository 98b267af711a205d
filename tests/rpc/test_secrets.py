"""No password, hash, token or key reaches a log line or an error, whatever is called and however it ends."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest, UpdateMeRequest

from killrvideo_grpc.server import CONTRACT
from tests.rpc.conftest import bearer
from tests.support.accounts import an_address
from tests.support.errors import read_failure
from tests.support.process import Service, running
from tests.support.settings import KEY
from tests.support.tokens import claims, signed

PASSWORD = "planted-password"
WRONG = "planted-wrong"


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_secret_is_logged(tmp_path: Path, style: str) -> None:
    with running(tmp_path, LOG_LEVEL="DEBUG", LOG_FORMAT=style, GRPC_VERBOSITY="debug") as service:
        tokens, answers = call_everything(service, tmp_path)
        assert service.stop() == 0
    log = service.log.read_text()
    connection = sqlite3.connect(tmp_path / "killrvideo.db")
    hashes = [row[0] for row in connection.execute("SELECT hashed_password FROM users")]
    connection.close()
    assert hashes
    for planted in [KEY, PASSWORD, WRONG, "planted", *hashes, *tokens, *(token.split(".")[2] for token in tokens)]:
        assert planted not in log
        assert planted not in service.banner
        assert not any(planted in answer for answer in answers)
    for rpc in CONTRACT.methods_by_name:  # and all of that was logged, good and bad
        lines = [line for line in log.splitlines() if re.search(rf"/{rpc}\b", line)]
        codes = {found[1] for line in lines if (found := re.search(r"\bcode\W+(\w+)", line))}
        assert len(codes) > 1, (rpc, codes)
        assert "OK" in codes


def call_everything(service: Service, folder: Path) -> tuple[list[str], list[str]]:
    """Calls each RPC well and badly. Returns all tokens, and the texts of all errors."""
    errors: list[str] = []
    with grpc.insecure_channel(service.target) as channel:
        stub = user_service_pb2_grpc.UserServiceStub(channel)

        def attempt(call: Callable[..., object], request: object, token: str = "") -> None:
            try:
                call(request, metadata=bearer(token) if token else None)
            except grpc.RpcError as error:
                errors.append(f"{error} {read_failure(error)}")

        email = an_address()
        for _ in range(2):
            attempt(stub.Register, RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee"))
        attempt(stub.Register, RegisterRequest(email="planted", password="planted", first_name="planted\0"))
        login = stub.Login(LoginRequest(email=email, password=PASSWORD))
        attempt(stub.Login, LoginRequest(email=email, password=WRONG))
        attempt(stub.Login, LoginRequest(email="planted", password=PASSWORD))
        forged = signed(claims(login.user.user_id), key="planted-other-key" * 3)
        for token in (login.token, forged, "planted", ""):
            attempt(stub.GetMe, GetMeRequest(), token)
            attempt(stub.UpdateMe, UpdateMeRequest(first_name="Bea"), token)
        attempt(stub.UpdateMe, UpdateMeRequest(first_name="planted\0"), login.token)
        break_store(folder)
        attempt(stub.GetMe, GetMeRequest(), login.token)
        attempt(stub.Login, LoginRequest(email=email, password=PASSWORD))
        attempt(stub.Register, RegisterRequest(email="p@x.org", password=PASSWORD, first_name="Ann", last_name="Lee"))
    return [login.token, forged], errors


def break_store(folder: Path) -> None:
    """Gives a column values that no version of the program wrote, so that reading them is a bug's kind of error."""
    connection = sqlite3.connect(folder / "killrvideo.db")
    with connection:
        connection.execute("UPDATE users SET roles = 'planted'")
    connection.close()


def test_fields_that_hold_secrets_are_marked_in_the_contract() -> None:
    fields = [
        field for message in user_service_pb2.DESCRIPTOR.message_types_by_name.values() for field in message.fields
    ]
    marked = {field.full_name for field in fields if field.GetOptions().debug_redact}
    assert marked == {field.full_name for field in fields if re.search("password|token|secret|hash", field.name)}
