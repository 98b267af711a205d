"""Every RPC of the contract with tokens of services, and CheckTokens."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import grpc
import pytest
from killrvideo.user.v1 import user_service_pb2 as pb

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.services import Grant, remove_service
from killrvideo_grpc.security.service_tokens import new_service_token
from killrvideo_grpc.service import service_authentication
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.rpc.conftest import Account, Stub
from tests.rpc.requests import FOR_ACCOUNTS, PRIVATE, PUBLIC, empower, good_request, grant_for, only_grant_for
from tests.rpc.test_access import EXPIRED, FEW, INVALID, NOT_AUTHENTICATED, TOKENS, Code, outcome
from tests.support.calls import bearer
from tests.support.errors import read_failure
from tests.support.services import added_to_file
from tests.support.stores import FlakyStore
from tests.support.tokens import claims, signed

FOR_PEOPLE = (Code.PERMISSION_DENIED, "GRANT_REQUIRED", "Only people can do this, not services")


@pytest.fixture(scope="module", autouse=True)
def short_lookups() -> Iterator[None]:
    """An unknown token waits a moment for the next read of the services, instead of up to a second."""
    with patch.object(service_authentication, "READ_INTERVAL", 0.01):
        yield


def needs(grant: Grant | None) -> tuple[grpc.StatusCode, str, str]:
    """Return what a caller without the grant gets."""
    if grant is None:
        return FOR_PEOPLE
    return (Code.PERMISSION_DENIED, "GRANT_REQUIRED", f"Only services with the grant {grant} can do this")


@pytest.fixture(scope="module")
def tokens(settings: Settings, store: FlakyStore) -> dict[frozenset[Grant], str]:
    """Tokens of services with each grant, with all others, with all, and with none."""
    kinds = [{grant} for grant in Grant] + [set(Grant) - {grant} for grant in Grant] + [set(Grant), set[Grant]()]
    return {frozenset(kind): added_to_file(settings.sqlite_path, *kind) for kind in kinds}


@pytest.mark.parametrize("rpc", PRIVATE)
def test_a_service_needs_the_grant_of_the_rpc(
    grpc_stub: Stub, account: Account, tokens: dict[frozenset[Grant], str], rpc: str
) -> None:
    empower(account, rpc)
    grant = grant_for(rpc)
    for grants, token in tokens.items():
        expected = None if grant in grants else needs(grant)
        assert outcome(grpc_stub, rpc, good_request(rpc, account), bearer(token)) == expected, grants


@pytest.mark.parametrize("rpc", PUBLIC)
def test_public_rpcs_ignore_services(grpc_stub: Stub, account: Account, rpc: str) -> None:
    for token in (new_service_token("unknown"), "kvs_"):
        assert outcome(grpc_stub, rpc, good_request(rpc, account), bearer(token)) is None


def test_unusable_service_tokens_open_nothing(
    grpc_stub: Stub, account: Account, settings: Settings, tmp_path: Path
) -> None:
    """Called at once, because unknown tokens wait for the next read of the services."""
    everything = tuple(Grant)
    good = added_to_file(settings.sqlite_path, *everything)
    removed = added_to_file(settings.sqlite_path, *everything)
    asyncio.run(remove(settings.sqlite_path, removed.split("_")[1]))
    unusable = {
        "removed": removed,
        "mistyped": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "cut": good[:-1],
        "in capitals": good.upper(),
        "of another name": good.replace(good.split("_")[1], "another"),
        "of another keyspace": added_to_file(tmp_path / "another.db", *everything),
    }
    calls = {
        (rpc, kind): getattr(grpc_stub, rpc).future(good_request(rpc, account), metadata=bearer(token), timeout=30)
        for rpc in PRIVATE
        for kind, token in unusable.items()
    }
    for call, answer in calls.items():
        failure = read_failure(answer.exception())
        assert (failure.code, failure.reason, failure.message) == INVALID, call
    assert outcome(grpc_stub, "BatchGetUsers", good_request("BatchGetUsers", account), bearer(good)) is None


async def remove(database: Path, name: str) -> None:
    store = SqliteStore(database)
    await store.change_services(remove_service(name))
    await store.close()


@pytest.mark.parametrize("rpc", [rpc for rpc in PRIVATE if rpc not in FOR_ACCOUNTS])
@pytest.mark.parametrize("kind", FEW)
def test_no_account_passes_for_a_service(grpc_stub: Stub, account: Account, rpc: str, kind: str) -> None:
    metadata, expected = TOKENS[kind]
    account.change("roles", '["moderator"]')
    assert outcome(grpc_stub, rpc, good_request(rpc, account), metadata(account)) == (
        expected or needs(only_grant_for(rpc))
    )


@pytest.fixture
def checker(settings: Settings, store: FlakyStore) -> str:
    return added_to_file(settings.sqlite_path, Grant.CHECK_TOKENS)


def check(stub: Stub, checker: str, *tokens: str) -> list[pb.TokenResult]:
    return list(stub.CheckTokens(pb.CheckTokensRequest(tokens=tokens), metadata=bearer(checker)).results)


# Without those whose header is wrong, and not the token.
CHECKABLE = [kind for kind, (_, expected) in TOKENS.items() if expected != NOT_AUTHENTICATED and kind != "two headers"]


@pytest.mark.parametrize("kind", CHECKABLE)
def test_a_token_is_active_exactly_when_a_call_with_it_is_accepted(
    grpc_stub: Stub, account: Account, checker: str, kind: str
) -> None:
    make, expected = TOKENS[kind]
    token = str(dict(make(account))["authorization"]).partition(" ")[2]
    (result,) = check(grpc_stub, checker, token)
    if expected:
        assert result == pb.TokenResult(reason=expected[1])
    else:
        assert (result.active, result.user_id, result.session_id) == (True, account.user_id, account.session_id)
        assert (list(result.roles), result.reason) == (["viewer"], "")


def test_each_token_has_its_result_in_the_order_of_the_request(grpc_stub: Stub, account: Account, checker: str) -> None:
    other = account.other
    other.change("roles", '["moderator", "viewer"]')
    expired = signed(claims(account.user_id, account.session_id, exp=int(time.time()) - 1))
    mixed = [account.login.token, "", expired, "x" * 1_000_000, other.login.token, account.login.token, checker]
    results = check(grpc_stub, checker, *mixed)
    assert [result.reason for result in results] == ["", INVALID[1], EXPIRED[1], INVALID[1], "", "", INVALID[1]]
    assert results[0] == results[5]
    assert results[0].expires_at == account.login.expires_at
    assert list(results[4].roles) == ["viewer", "moderator"]
    for result in results:
        assert result.active or result == pb.TokenResult(reason=result.reason)


def test_the_live_account_decides(grpc_stub: Stub, account: Account, checker: str) -> None:
    def reason() -> str:
        (result,) = check(grpc_stub, checker, account.login.token)
        return result.reason or str(list(result.roles))

    assert reason() == "['viewer']"
    account.change("roles", '["creator"]')
    assert reason() == "['creator']"
    account.change("account_status", "suspended")
    assert reason() == "ACCOUNT_SUSPENDED"
    account.change("account_status", "active")
    account.change("roles", "[]")
    assert reason() == "NO_ROLES_ASSIGNED"
    account.change("roles", '["viewer"]')
    grpc_stub.Logout(pb.LogoutRequest(), metadata=account.metadata)
    assert reason() == "SESSION_ENDED"
    account.delete()
    assert reason() == "USER_NOT_FOUND"


@pytest.mark.parametrize("count", [0, 101])
def test_the_number_of_tokens(grpc_stub: Stub, checker: str, count: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(grpc_stub, checker, *["x"] * count)
    failure = read_failure(caught.value)
    assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["tokens"])
    assert len(check(grpc_stub, checker, *["x"] * 100)) == 100
