"""The Python in docs/calling.md, run against the service."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.rpc.conftest import Account

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "calling.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/calling.md", "exec"), names)
    return names


def test_names_of_more_authors_than_a_call_takes(example: dict[str, Any], account: Account, grpc_addr: str) -> None:
    ids = [account.user_id, *(str(uuid4()) for _ in range(250)), account.other.user_id, account.user_id]
    with example["connect"](grpc_addr) as channel:
        found = example["profiles"](channel, account.login.token, ids)
    assert found.keys() == {account.user_id, account.other.user_id}
    assert example["author"](found, account.user_id) == "Ann Lee"
    assert example["author"](found, ids[1]) == "Someone"
