"""Throttling through the edge: how it determines the source of calls, and its responses."""

import grpc
import httpx
import pytest
from killrvideo.user.v1.user_service_pb2 import LoginRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.rest.conftest import USERS, Account, Edge, problem
from tests.support.accounts import PASSWORD
from tests.support.errors import read_failure

PER_ACCOUNT_AND_SOURCE = 20
FORGED = [{"x-forwarded-for": f"198.51.100.{number}"} for number in range(PER_ACCOUNT_AND_SOURCE)]
CLAIMS = ["198.51.100.99", "127.0.0.1", "198.51.100.99, 127.0.0.1", "garbage", ""]


@pytest.fixture
def blocked(client: httpx.Client, account: Account) -> Account:
    """An account with too many failed attempts, each with another forged x-forwarded-for."""
    for headers in FORGED:
        problem(log_in(client, account, "wrong guess", **headers), 401, "INVALID_CREDENTIALS")
    return account


def log_in(client: httpx.Client, account: Account, password: str = PASSWORD, **headers: str) -> httpx.Response:
    return client.post(f"{USERS}/login", json={"email": account.email, "password": password}, headers=headers)


def test_a_block_is_a_429_that_says_when_it_ends(client: httpx.Client, blocked: Account) -> None:
    answer = log_in(client, blocked)
    problem(answer, 429, "TOO_MANY_ATTEMPTS", "Too many attempts. Try again later.")
    assert 1 <= int(answer.headers["retry-after"]) <= 15 * 60


@pytest.mark.parametrize("claim", CLAIMS)
def test_addresses_that_callers_claim_are_ignored(
    client: httpx.Client, edge: Edge, blocked: Account, claim: str
) -> None:
    problem(log_in(client, blocked, **{"x-forwarded-for": claim}), 429, "TOO_MANY_ATTEMPTS")
    request, metadata = LoginRequest(email=blocked.email, password=PASSWORD), (("x-forwarded-for", claim),)
    with grpc.insecure_channel(edge.url.removeprefix("http://")) as channel:
        stub = UserServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Login(request, metadata=metadata)
    failure = read_failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")
    assert failure.retry_seconds
    assert 1 <= failure.retry_seconds <= 15 * 60


def test_failures_through_the_edge_do_not_block_services_that_call_a_worker(edge: Edge, blocked: Account) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{edge.workers[0]}") as channel:
        request = LoginRequest(email=blocked.email, password=PASSWORD)
        assert UserServiceStub(channel).Login(request).token
