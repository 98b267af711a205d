"""The Python in the README and in docs/calling.md, run against the service."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.rpc.conftest import Account

ROOT = Path(__file__).parents[2]


def run(file: str, replaced: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs the Python of a document, and returns the names that it defines."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    for old, new in (replaced or {}).items():
        assert old in code
        code = code.replace(old, new)
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
    with example["connect"](grpc_addr) as channel:
        found = example["profiles"](channel, account.login.token, ids)
    assert found.keys() == {account.user_id, account.other.user_id}
    assert example["author"](found, account.user_id) == "Ann Lee"
    assert example["author"](found, ids[1]) == "Someone"


def test_who_is_logged_in(example: dict[str, Any], account: Account, grpc_addr: str) -> None:
    with example["connect"](grpc_addr) as channel:
        found = example["caller"](channel, account.login.token)
        assert (found.user_id, list(found.roles), found.account_status) == (account.user_id, ["viewer"], "active")
        assert example["caller"](channel, "no token") is None
