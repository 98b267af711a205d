"""JSON values of the wrong type, in the fields for which Envoy's transcoder takes strings or lists of lists."""

import httpx
import pytest

from killrvideo_grpc.edge.contract import methods, never_strings
from tests.rest.conftest import JSON, USERS, Account, problem

LOGOUT = f"{USERS}/logout"
BATCH = f"{USERS}:batchGet"
KEYS = ['"allSessions"', '"all_sessions"', "'allSessions'", "allSessions", "all_sessions", r'"all\u0053essions"']
KEYS += [r'"\u0061\u006cl\u005fsessions"', r'"allSession\s"']
OTHERS = [
    '"a":{"b":[1,{"c":"d"}]},',
    r'"a":"\"}",',
    r"'a\'':'{\"',",
    '"\\u005c":[[]],',
    '"é":1,a$:null,',
    '"a":"\\\\",',
    "'\"':1,",
]


def test_only_these_fields_are_never_strings() -> None:
    found = {method.name: never_strings(method) for method in methods()}
    assert {name: fields for name, fields in found.items() if fields} == {
        "Logout": ["all_sessions", "allSessions"],
        "BatchGetUsers": ["user_ids", "userIds"],
    }


def refused(client: httpx.Client, path: str, account: Account, body: str) -> list[str]:
    """Check that a body is refused for its types and ends no session. Return the fields that the problem names."""
    answer = client.post(path, content=body.encode(), headers=JSON | account.bearer)
    problem(answer, 422, "VALIDATION_FAILED")
    assert client.get(f"{USERS}/me", headers=account.bearer).status_code == 200
    return [error["field"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("value", ["yes", "true", "false", "no", "1", "0", "t", "y", "on", "", "TRUE", "x", "null"])
def test_strings_are_not_booleans(client: httpx.Client, account: Account, value: str) -> None:
    for quoted in (f'"{value}"', f"'{value}'"):
        assert refused(client, LOGOUT, account, f'{{"allSessions":{quoted}}}') == ["allSessions"]


@pytest.mark.parametrize("value", ["1", "0", "-1", "1.5", "1e1", "{}", '{"a":true}'])
def test_neither_are_numbers_and_objects(client: httpx.Client, account: Account, value: str) -> None:
    assert refused(client, LOGOUT, account, f'{{"allSessions":{value}}}') == ["allSessions"]


@pytest.mark.parametrize("value", ["[]", "[true]", '["yes"]', '[["yes"]]'])
def test_neither_are_lists(client: httpx.Client, account: Account, value: str) -> None:
    assert refused(client, LOGOUT, account, f'{{"allSessions":{value}}}')


@pytest.mark.parametrize("key", KEYS)
def test_names_may_be_written_in_any_way(client: httpx.Client, account: Account, key: str) -> None:
    for colon in (":", " : ", "\n:\t", ":\v\f"):
        assert refused(client, LOGOUT, account, f'{{{key}{colon}"yes"}}') == ["allSessions"]


@pytest.mark.parametrize("other", OTHERS)
def test_other_members_hide_nothing(client: httpx.Client, account: Account, other: str) -> None:
    allowed = '"allSessions":false,'
    for before, after in ((other, ""), ("", f",{other}"), (other + allowed, ""), (allowed, f",{allowed}")):
        assert refused(client, LOGOUT, account, f' {{{before}"allSessions":"yes"{after}}}') == ["allSessions"]


@pytest.mark.parametrize(
    "body",
    [
        '{"allSessions":true}',
        "{'all_sessions' : false ,}",
        "{allSessions:null}",
        '{"a":{"allSessions":"yes"},"allSessions":false}',
        r'{"a":"\"allSessions\":\"yes\""}',
        '{"a":["allSessions","yes"],"b":":"}',
        '{"AllSessions":"yes"}',
        "",
    ],
)
def test_right_types_are_accepted(client: httpx.Client, account: Account, body: str) -> None:
    answer = client.post(LOGOUT, content=body.encode(), headers=JSON | account.bearer)
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize(
    "body", ['{"allSessions":tru}', '{"allSessions":"yes', '{"allSessions":', '{"a" "allSessions":"yes"}']
)
def test_malformed_bodies_are_still_malformed(client: httpx.Client, account: Account, body: str) -> None:
    problem(client.post(LOGOUT, content=body, headers=JSON | account.bearer), 400)


def test_strings_and_lists_of_lists_are_not_lists(client: httpx.Client, account: Account) -> None:
    one = f'"{account.user_id}"'
    for value in (one, f"[[{one}]]", f"[{one},[{one}]]", f"[{one},[]]", "5", "true", "{}", f"[{{}},{one}]", "[1]"):
        for key in ("userIds", "user_ids"):
            assert refused(client, BATCH, account, f'{{"{key}":{value}}}') == ["userIds"]
    body = f'{{"a":[[{one}]],"userIds":[{one}],"b":"c","d":[[]]}}'
    answer = client.post(BATCH, content=body, headers=JSON | account.bearer)
    assert [user["userId"] for user in answer.json()["users"]] == [account.user_id]


def test_large_and_deep_bodies(client: httpx.Client, account: Account) -> None:
    wrong = '"allSessions":"yes"}'
    assert refused(client, LOGOUT, account, '{"a":"' + '\\"' * 30_000 + '",' + wrong) == ["allSessions"]
    assert refused(client, LOGOUT, account, "{" + '"a":1,' * 10_000 + wrong) == ["allSessions"]
    deep = client.post(LOGOUT, content='{"a":' + "[" * 60_000, headers=JSON | account.bearer)
    problem(deep, 400)
