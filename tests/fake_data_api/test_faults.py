"""What users of the fake Data API rely on: faults on demand, records, a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from astrapy import Database
from astrapy.exceptions import (
    DataAPIException,
    DataAPITimeoutException,
)

from tests.fake_data_api.astrapy_errors import WHAT_ASTRAPY_RAISES, Raised, describe
from tests.fake_data_api.clients import Send, refusal, token
from tests.fake_data_api.conftest import ANN, BOB
from tests.fake_data_api.transcripts import KEYSPACE
from tests.support.fake_data_api import Close, Delay, Drip, ErrorAnswer, FakeDataApi, Hang
from tests.support.fake_data_api.faults import Kind

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("kind", "expected"), WHAT_ASTRAPY_RAISES, ids=str)
def test_astrapy_raises_the_expected_error_for_each_fault(
    api: FakeDataApi, database: Database, kind: Kind, expected: Raised, after_write: bool
) -> None:
    users = database.get_table("users")
    fault = api.fail(kind, command="insertOne", name="users", after_write=after_write, times=1)
    with pytest.raises((DataAPIException, httpx.HTTPError, AttributeError)) as raised:
        users.insert_one({"userid": ANN, "email": "a"})
    assert describe(raised.value) == expected
    assert fault.hits == 1
    assert (api.row(KEYSPACE, "users", ANN) is not None) == after_write
    users.insert_one({"userid": ANN, "email": "b"})
    assert api.row(KEYSPACE, "users", ANN) == {"userid": str(ANN), "email": "b"}


def test_the_third_request_is_carried_out_and_its_answer_gets_lost(api: FakeDataApi, send: Send) -> None:
    api.fail(Close(), command="insertOne", name="credentials", skip=2, times=1, after_write=True)
    lost = []
    for number in range(5):
        try:
            send("credentials", insertOne={"document": {"_id": number}})
        except httpx.RemoteProtocolError:
            lost.append(number)
    assert lost == [2]
    assert [document["_id"] for document in api.documents(KEYSPACE, "credentials")] == [0, 1, 2, 3, 4]


def test_a_crash_before_the_third_request_lasts(api: FakeDataApi, send: Send) -> None:
    api.fail(Close(), name="credentials", skip=2)
    lost = []
    for number in range(5):
        try:
            send("credentials", insertOne={"document": {"_id": number}})
        except httpx.RemoteProtocolError:
            lost.append(number)
    assert lost == [2, 3, 4]
    assert [document["_id"] for document in api.documents(KEYSPACE, "credentials")] == [0, 1]


def test_256_connections_are_served_at_once_and_used_again(api: FakeDataApi, send: Send) -> None:
    body = json.dumps({"findOne": {"filter": {"_id": "a"}}})
    headers = {"Token": token(api.username, api.password)}
    with ExitStack() as stack, api.fail(Hang(), command="findOne"):
        opened = [HTTPConnection(urlsplit(api.url).netloc) for _ in range(256)]
        for connection in opened:
            stack.callback(connection.close)
            connection.request("POST", f"/v1/{KEYSPACE}/credentials", body, headers)
        api.wait_for(command="findOne", count=256)
        api.clear_faults()
        for _ in range(2):
            assert {connection.getresponse().read() for connection in opened} == {b'{"data":{"document":null}}'}
            for connection in opened:
                connection.request("POST", f"/v1/{KEYSPACE}/credentials", body, headers)
        assert api.connections == 256


def test_a_request_that_hangs_is_carried_out_when_it_is_let_go(api: FakeDataApi, database: Database) -> None:
    users = database.get_table("users")
    with api.fail(Hang(), command="insertOne"):
        with pytest.raises(DataAPITimeoutException) as raised:
            users.insert_one({"userid": ANN, "email": "a"}, request_timeout_ms=50)
        assert raised.value.timeout_type == "read"
        assert [request.name for request in api.wait_for(command="insertOne")] == ["users"]
        assert users.find_one({"userid": ANN}) is None
    api.wait_until(lambda: api.row(KEYSPACE, "users", ANN) is not None)


def test_an_answer_that_drips_outlasts_the_time_out_of_each_read(api: FakeDataApi, database: Database) -> None:
    users = database.get_table("users")
    with api.fail(Drip(0.005), after_write=True):
        started = time.monotonic()
        assert users.find_one({"userid": ANN}, timeout_ms=250) is None
        assert time.monotonic() - started > 0.5


def test_a_server_that_closes_lets_nothing_hang(api: FakeDataApi, send: Send) -> None:
    api.fail(Hang(), command="insertOne")
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(send, "users", insertOne={"document": {"userid": str(ANN)}})
        api.wait_for(command="insertOne")
        api.close()
        assert isinstance(hanging.exception(5), httpx.RemoteProtocolError)
    assert api.rows(KEYSPACE, "users") == []


def test_a_delay_and_an_error_may_meet_one_request(api: FakeDataApi, send: Send) -> None:
    api.fail(Delay(0.05), where=lambda request: request.arguments["filter"] == {"userid": str(ANN)})
    api.fail(ErrorAnswer("TIMEOUT_READING_DATA"), times=2)
    started = time.monotonic()
    assert refusal(send("users", findOne={"filter": {"userid": str(ANN)}})) == ("SERVER", "TIMEOUT_READING_DATA")
    assert time.monotonic() - started >= 0.05
    answers = [refusal(send("users", findOne={"filter": {"userid": str(BOB)}})) for _ in range(2)]
    assert answers == [("SERVER", "TIMEOUT_READING_DATA"), None]


def test_requests_and_connections_are_on_record(api: FakeDataApi, send: Send, database: Database) -> None:
    api.forget_requests()
    users = database.get_table("users")
    for _ in range(3):
        users.find_one({"userid": ANN})
    assert [(request.command, request.path) for request in api.requests] == [("findOne", f"/v1/{KEYSPACE}/users")] * 3
    assert api.requests[0].arguments == {"filter": {"userid": str(ANN)}}
    assert api.connections == 1
    assert "secret" not in repr(api.requests)
    api.forget_requests()
    with pytest.raises(TimeoutError):
        api.wait_for(command="findOne", timeout=0.01)


def test_commands_take_the_configured_time() -> None:
    headers = {"Token": token("cassandra", "cassandra")}
    with FakeDataApi(delay_ms=30, row_ms=1, burn_ms=20) as api, httpx.Client(headers=headers, verify=False) as client:
        started, cpu = time.monotonic(), time.process_time()
        assert client.post(api.url + "/v1", json={"createKeyspace": {"name": "k"}}).json() == {"status": {"ok": 1}}
        assert time.monotonic() - started >= 0.051
        assert time.process_time() - cpu >= 0.02


def test_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.support.fake_data_api", "--port", "0", "--username", "u", "--password", "p"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        answer = httpx.post(
            f"{url}/v1", json={"createKeyspace": {"name": "k"}}, headers={"Token": token("u", "p")}, verify=False
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert answer.json() == {"status": {"ok": 1}}
