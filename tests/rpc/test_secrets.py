"""No log line or error contains a password, hash, token or key, whatever is called and however it ends."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from killrvideo.envoy.auth_service_pb2_grpc import AuthorizationStub
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc
from killrvideo.user.v1.user_service_pb2 import LoginRequest, LoginResponse

from killrvideo_grpc.security.service_tokens import new_service_token
from killrvideo_grpc.server.grpc_server import CONTRACT
from tests.rpc.conftest import Account
from tests.rpc.requests import PUBLIC, RPCS, empower, good_request, harmless_request, token_for
from tests.support.calls import bearer, check_request, registration
from tests.support.errors import read_failure
from tests.support.process import Service, running_command
from tests.support.services import added_to_file
from tests.support.settings import KEY
from tests.support.tokens import claims, signed

PASSWORD = "planted-password"
WRONG = "planted-wrong"


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_secret_is_logged(tmp_path: Path, style: str) -> None:
    with running_command(tmp_path, LOG_LEVEL="DEBUG", LOG_FORMAT=style, GRPC_VERBOSITY="debug") as service:
        tokens, answers = call_everything(service, tmp_path)
        assert service.stop() == 0
    log = service.log.read_text()
    connection = sqlite3.connect(tmp_path / "killrvideo.db")
    hashes = [row[0] for row in connection.execute("SELECT hashed_password FROM accounts WHERE claimed_email NOTNULL")]
    connection.close()
    assert hashes
    parts = [re.split("[.]" if "." in token else "_", token)[-1] for token in tokens]
    for planted in [KEY, PASSWORD, WRONG, "planted", *hashes, *tokens, *parts]:
        assert planted not in log
        assert planted not in service.banner
        assert not any(planted in answer for answer in answers)
    for rpc in CONTRACT.methods_by_name:  # checks that all calls, successful and failed, were logged
        lines = [line for line in log.splitlines() if re.search(rf"/{rpc}\b", line)]
        codes = {found[1] for line in lines if (found := re.search(r"\bcode\W+(\w+)", line))}
        assert len(codes) > 1 or cannot_fail(rpc), (rpc, codes)
        assert "OK" in codes


def call_everything(service: Service, folder: Path) -> tuple[list[str], list[str]]:
    """Make valid and invalid calls of each RPC. Return all tokens, and the texts of all errors."""
    errors: list[str] = []
    with grpc.insecure_channel(service.target) as channel:
        stub, check = user_service_pb2_grpc.UserServiceStub(channel), AuthorizationStub(channel).Check

        def attempt(call: Callable[..., object], request: object, token: str = "") -> object:
            try:
                return call(request, metadata=bearer(token) if token else None)
            except grpc.RpcError as error:
                errors.append(f"{error} {read_failure(error)}")
                return None

        account = Account(stub, folder / "killrvideo.db", PASSWORD)
        tokens = [account.login.token, account.login.refresh_token]
        powerless = added_to_file(folder / "killrvideo.db")
        unknown = [new_service_token("planted") for _ in range(2)]
        tokens += [powerless, *unknown]
        forged = signed(claims(account.user_id, account.session_id), key="planted-other-key" * 3)
        odd = odd_request("BatchGetUsers")
        waiting = [stub.BatchGetUsers.future(odd, metadata=bearer(token)) for token in unknown]
        for future in waiting:  # for a read of the services
            attempt(lambda _, metadata, future=future: future.result(), odd)
        for rpc in RPCS:
            empower(account, rpc)
            call = getattr(stub, rpc)
            odd, good = odd_request(rpc), good_request(rpc, account)
            own = token_for(rpc, account)
            for token in (own, forged, "planted", "kvs_planted", powerless, ""):
                attempt(call, odd, token)
                attempt(check, check_request(f"Bearer {token}"))
            attempt(call, harmless_request(rpc, account), own)
            answer = attempt(call, good, own)
            for field, value in good.ListFields():
                if field.GetOptions().debug_redact:
                    tokens += value if field.is_repeated else [value]
            services = account.service_tokens
            account = Account(stub, folder / "killrvideo.db", PASSWORD)  # many calls end the session
            account.service_tokens = services
            tokens += [account.login.token, account.login.refresh_token, *account.service_tokens.values()]
            if isinstance(answer, LoginResponse):
                tokens += [answer.token, answer.refresh_token]
        attempt(stub.Register, registration(account.email, password=PASSWORD))
        attempt(stub.Login, LoginRequest(email=account.email, password=WRONG))
        break_store(folder)
        attempt(check, check_request(f"Bearer {account.login.token}"))
        for rpc in RPCS:
            attempt(getattr(stub, rpc), good_request(rpc, account), token_for(rpc, account))
        attempt(stub.Login, LoginRequest(email=account.email, password=PASSWORD))
    return [*tokens, forged], errors


def cannot_fail(rpc: str) -> bool:
    """Return whether no caller and no request of an RPC is refused, and it reads nothing."""
    return rpc in PUBLIC and not CONTRACT.methods_by_name[rpc].input_type.fields


def odd_request(rpc: str) -> Any:
    """Return a request with planted text in every string field."""
    kind = message_factory.GetMessageClass(CONTRACT.methods_by_name[rpc].input_type)
    texts = [field for field in kind.DESCRIPTOR.fields if field.type == field.TYPE_STRING]
    return kind(**{field.name: ["planted\0"] if field.is_repeated else "planted\0" for field in texts})


def break_store(folder: Path) -> None:
    """Set a column to values that the service never writes, so that reading them raises an unexpected error."""
    connection = sqlite3.connect(folder / "killrvideo.db")
    with connection:
        connection.execute("UPDATE accounts SET roles = 'planted'")
    connection.close()


def test_fields_that_hold_secrets_are_marked_in_the_contract() -> None:
    fields = [
        field for message in user_service_pb2.DESCRIPTOR.message_types_by_name.values() for field in message.fields
    ]
    marked = {field.full_name for field in fields if field.GetOptions().debug_redact}
    assert marked == {
        field.full_name
        for field in fields
        if re.search("password|token|secret|hash|^code$", field.name) and not field.name.endswith("page_token")
    }


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_exception_is_logged(style: str) -> None:
    """Neither the service's loggers nor those of libraries show messages, tracebacks or local variables."""
    script = f"""
import logging, structlog
from killrvideo_grpc.observability.logs import configure_logs
configure_logs("INFO", "{style}")
try:
    secret = "planted local"
    raise ValueError("planted message")
except ValueError:
    structlog.get_logger().error("ours", exc_info=True)
    logging.getLogger("library").exception("theirs")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ours" in done.stderr
    assert "theirs" in done.stderr
    assert not re.search("planted|Traceback|exc_info", done.stderr)
