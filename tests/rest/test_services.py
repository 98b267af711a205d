"""Services over REST."""

import httpx

from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.security.service_tokens import new_service_token
from tests.rest.conftest import USERS, Account, Edge, bearer, problem
from tests.support.services import added_to_file

BATCH = f"{USERS}:batchGet"


def test_a_service_reads_profiles(client: httpx.Client, edge: Edge, account: Account) -> None:
    reader = bearer(added_to_file(edge.database, Grant.READ_PROFILES))
    answer = client.post(BATCH, json={"userIds": [account.user_id]}, headers=reader)
    assert [user["userId"] for user in answer.json()["users"]] == [account.user_id]
    me = client.get(f"{USERS}/me", headers=reader)
    problem(me, 403, "GRANT_REQUIRED", "Only people can do this, not services")


def test_a_service_without_the_grant(client: httpx.Client, edge: Edge, account: Account) -> None:
    checker = bearer(added_to_file(edge.database, Grant.CHECK_TOKENS))
    answer = client.post(BATCH, json={"userIds": [account.user_id]}, headers=checker)
    problem(answer, 403, "GRANT_REQUIRED", "Only services with the grant read_profiles can do this")


def test_an_unknown_service(client: httpx.Client, account: Account) -> None:
    unknown = bearer(new_service_token("unknown"))
    answer = client.post(BATCH, json={"userIds": [account.user_id]}, headers=unknown)
    problem(answer, 401, "TOKEN_INVALID", "Could not validate credentials")
    assert answer.headers["www-authenticate"] == "Bearer"
