"""The command on a Data API: schema and repair, roles, settings, and a start while the Data API is down."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from killrvideo.user.v1.user_service_pb2 import GetUserRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.stores.data_api.client import ACCOUNTS, USERS
from tests.support import fake_data_api
from tests.support.accounts import an_address
from tests.support.calls import registration
from tests.support.errors import read_failure
from tests.support.eventually import eventually
from tests.support.fake_data_api import Close, ErrorAnswer, Hang, HttpStatus
from tests.support.keyspaces import KEYSPACE, keyspace_at, prepared_fake
from tests.support.keyspaces import PASSWORD as DATABASE_PASSWORD
from tests.support.keyspaces import USERNAME as DATABASE_USERNAME
from tests.support.process import astra, run, running

KILLRVIDEO_USERS = {
    "columns": {
        "userid": "uuid",
        "created_date": "timestamp",
        "email": "text",
        "firstname": "text",
        "lastname": "text",
        "account_status": "text",
        "last_login_date": "timestamp",
    },
    "primaryKey": "userid",
}
COMPLETE = "Schema of killrvideo is up to date.\n"
BEA = {"userid": "11111111-1111-4111-8111-111111111101", "email": "bea@example.org", "firstname": "Bea"}


@pytest.fixture
def server() -> Iterator[fake_data_api.FakeDataApi]:
    with fake_data_api.FakeDataApi(username=DATABASE_USERNAME, password=DATABASE_PASSWORD) as server:
        yield server


def test_schema_is_made_checked_and_made_again(server: fake_data_api.FakeDataApi, tmp_path: Path) -> None:
    def output(*arguments: str) -> tuple[int, str]:
        done = run(tmp_path, *arguments, **astra(keyspace_at(server.url)))
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    code, text = output("schema", "check")
    assert (code, "schema create --keyspace" in text) == (1, True)
    code, text = output("serve")
    assert (code, "schema create --keyspace" in text) == (1, True)
    code, text = output("schema", "create")
    assert (code, "schema create --keyspace" in text) == (1, True)
    code, text = output("schema", "create", "--keyspace")
    assert code == 0
    assert [line for line in text.splitlines() if line.startswith("created")] == [
        "created table users",
        "created index users_search_terms on users.search_terms",
        "created table account_events",
        "created table events_by_day",
        "created collection accounts",
    ]
    assert output("schema", "check") == (0, COMPLETE)
    assert output("schema", "create") == (0, COMPLETE)


def test_schema_adds_to_killrvideos_own_keyspace(server: fake_data_api.FakeDataApi, tmp_path: Path) -> None:
    server.put_keyspace(KEYSPACE)
    server.put_table(KEYSPACE, "users", KILLRVIDEO_USERS)
    server.put_row(KEYSPACE, "users", BEA)
    refused = run(tmp_path, "serve", **astra(keyspace_at(server.url)))
    assert refused.returncode == 1
    lacking = "columns search_terms of table users; table account_events; table events_by_day; collection accounts"
    assert f"keyspace killrvideo does not fit. Missing or wrong: {lacking}." in refused.stderr
    assert "killrvideo-grpc schema create" in refused.stderr
    created = run(tmp_path, "schema", "create", **astra(keyspace_at(server.url)))
    assert (created.returncode, "created columns search_terms of table users" in created.stdout) == (0, True)
    assert server.row(KEYSPACE, "users", BEA["userid"]) == BEA
    with (
        running(tmp_path, **astra(keyspace_at(server.url))) as service,
        grpc.insecure_channel(service.target) as channel,
    ):
        UserServiceStub(channel).Register(registration(an_address()))


def test_a_column_of_the_wrong_type_is_reported_and_kept(server: fake_data_api.FakeDataApi, tmp_path: Path) -> None:
    server.put_keyspace(KEYSPACE)
    columns = KILLRVIDEO_USERS["columns"] | {"search_terms": "text"}  # type: ignore[operator]
    server.put_table(KEYSPACE, "users", KILLRVIDEO_USERS | {"columns": columns})
    refused = run(tmp_path, "schema", "create", **astra(keyspace_at(server.url)))
    assert refused.returncode == 1
    assert "column search_terms of table users is text and must be set<text>" in refused.stderr
    checked = run(tmp_path, "schema", "check", **astra(keyspace_at(server.url)))
    assert checked.returncode == 1
    assert "wrong: column search_terms" in checked.stdout
    assert "schema create" not in checked.stderr  # which can't change it


def test_schema_on_sqlite_says_that_there_is_nothing_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "schema", "create")
    assert (done.returncode, "whose schema the service manages itself" in done.stderr) == (1, True)


def test_repair_by_command(tmp_path: Path) -> None:
    with prepared_fake() as (server, keyspace):
        settings = astra(keyspace)
        with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
            with server.fail(HttpStatus(500), name=USERS) as fault:
                user_id = UserServiceStub(channel).Register(registration(an_address())).user_id
                server.wait_until(lambda: fault.hits == 2)  # after the second failure the service leaves it to a sweep
            assert server.row(KEYSPACE, USERS, user_id) is None
        for finished in (1, 0):
            done = run(tmp_path, "schema", "check", "--repair", **settings)
            counts = (
                f"Finished accounts: {finished}. Corrections of the moderator index: 0."
                " Deleted unclaimed accounts: 0. Freed addresses: 0.\n"
            )
            assert (done.returncode, done.stdout) == (0, COMPLETE + counts)
        assert server.row(KEYSPACE, USERS, user_id)
        server.execute([KEYSPACE, ACCOUNTS], {"insertOne": {"document": {"_id": "account:odd"}}})
        done = run(tmp_path, "schema", "check", "--repair", **settings)
        assert (done.returncode, "Left unfinished: 1 documents" in done.stderr) == (1, True)
        assert "document=account:odd" in done.stderr


def test_a_start_waits_for_a_data_api_that_is_down(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.touch()

    def let_it_answer_once_missed(server: fake_data_api.FakeDataApi) -> None:
        eventually(lambda: "waiting for the store to answer" in log.read_text())
        server.clear_faults()

    with prepared_fake() as (server, keyspace):
        server.fail(Close())
        Thread(target=let_it_answer_once_missed, args=[server], daemon=True).start()
        with running(tmp_path, **astra(keyspace)) as service, grpc.insecure_channel(service.target) as channel:
            assert UserServiceStub(channel).Register(registration(an_address())).user_id


def test_after_a_health_check_that_hangs_calls_fail_without_a_request(tmp_path: Path) -> None:
    """With the default settings, where a request may take longer than a health check."""
    with (
        prepared_fake() as (server, keyspace),
        running(tmp_path, **astra(keyspace)) as service,
        grpc.insecure_channel(service.target) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        readiness = health_pb2.HealthCheckRequest(service="killrvideo.user.v1.UserService")
        with server.fail(Hang()):
            eventually(lambda: health.Check(readiness).status == health_pb2.HealthCheckResponse.NOT_SERVING)
            server.forget_requests()
            for _ in range(20):
                with pytest.raises(grpc.RpcError) as caught:
                    UserServiceStub(channel).GetUser(GetUserRequest(user_id=BEA["userid"]))
                assert read_failure(caught.value).reason == "STORE_UNAVAILABLE"
            pings = [request for request in server.requests if request.arguments.get("filter") == {"_id": "-"}]
            assert pings == server.requests
        eventually(lambda: health.Check(readiness).status == health_pb2.HealthCheckResponse.SERVING)
        assert UserServiceStub(channel).Register(registration(an_address())).user_id


def test_a_refused_password_stops_the_start_and_is_not_shown(server: fake_data_api.FakeDataApi, tmp_path: Path) -> None:
    wrong = astra(keyspace_at(server.url)) | {"ASTRA_DB_PASSWORD": "planted-wrong"}
    imports = ["accounts", "import", "--from-killrvideo", "tables"]
    for command in (["serve"], ["schema", "create", "--keyspace"], ["schema", "check"], imports):
        done = run(tmp_path, *command, **wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert "rejects the credentials" in done.stderr
        assert "planted-wrong" not in done.stderr
    shown = run(tmp_path, "config", "check", **astra(keyspace_at(server.url)))
    assert DATABASE_PASSWORD not in shown.stdout
    assert "ASTRA_DB_PASSWORD=**********" in shown.stdout


def test_a_request_that_is_refused_is_a_clear_error(tmp_path: Path) -> None:
    with prepared_fake() as (server, keyspace):
        server.fail(ErrorAnswer("UNKNOWN_TABLE_COLUMNS", family="REQUEST"), command="findOne")
        for command in (["roles", "list", "ann@example.org"], ["roles", "assign", "ann@example.org", "creator"]):
            done = run(tmp_path, *command, **astra(keyspace))
            assert (done.returncode, done.stdout) == (1, "")
            assert "UNKNOWN_TABLE_COLUMNS" in done.stderr
            assert "Traceback" not in done.stderr


def test_missing_settings_are_named_together(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", STORE="astra", SECRET_KEY="")
    assert done.returncode == 1
    for name in ("ASTRA_DB_API_ENDPOINT", "ASTRA_DB_APPLICATION_TOKEN", "ASTRA_DB_USERNAME", "SECRET_KEY"):
        assert name in done.stderr
