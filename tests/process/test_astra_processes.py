"""The command on a Data API: schema, crashes at each step of a registration, a start while the Data API is away."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.support import data_api
from tests.support.accounts import PASSWORD, an_address
from tests.support.data_api import Close, ErrorAnswer, Hang, HttpStatus
from tests.support.errors import read_failure
from tests.support.keyspaces import KEYSPACE, connection_to, prepared_stand_in
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
BEA = {"userid": "11111111-1111-4111-8111-111111111101", "email": "bea@example.org", "firstname": "Bea"}


@pytest.fixture
def server() -> Iterator[data_api.DataApi]:
    with data_api.DataApi(username=DATABASE_USERNAME, password=DATABASE_PASSWORD) as server:
        yield server


def test_schema_is_made_checked_and_made_again(server: data_api.DataApi, tmp_path: Path) -> None:
    def output(*arguments: str) -> tuple[int, str]:
        done = run(tmp_path, *arguments, **astra(connection_to(server.url)))
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
    assert [line for line in text.splitlines() if line.startswith("made")] == [
        "made table users",
        "made index users_search_terms on users.search_terms",
        "made collection login_credentials",
    ]
    assert output("schema", "check") == (0, "Keyspace killrvideo has all that is needed.\n")
    assert output("schema", "create") == (0, "Keyspace killrvideo has all that is needed.\n")


def test_schema_adds_to_killrvideos_own_keyspace(server: data_api.DataApi, tmp_path: Path) -> None:
    server.put_keyspace(KEYSPACE)
    server.put_table(KEYSPACE, "users", KILLRVIDEO_USERS)
    server.put_row(KEYSPACE, "users", BEA)
    refused = run(tmp_path, "serve", **astra(connection_to(server.url)))
    assert refused.returncode == 1
    assert "columns roles, search_terms of table users" in refused.stderr
    assert "killrvideo-grpc schema create" in refused.stderr
    made = run(tmp_path, "schema", "create", **astra(connection_to(server.url)))
    assert (made.returncode, "made columns roles, search_terms of table users" in made.stdout) == (0, True)
    assert server.row(KEYSPACE, "users", BEA["userid"]) == BEA
    with (
        running(tmp_path, **astra(connection_to(server.url))) as service,
        grpc.insecure_channel(service.target) as channel,
    ):
        UserServiceStub(channel).Register(registration(an_address()))


def test_a_column_of_another_type_is_told_and_left(server: data_api.DataApi, tmp_path: Path) -> None:
    server.put_keyspace(KEYSPACE)
    columns = KILLRVIDEO_USERS["columns"] | {"roles": "text"}  # type: ignore[operator]
    server.put_table(KEYSPACE, "users", KILLRVIDEO_USERS | {"columns": columns})
    made = run(tmp_path, "schema", "create", **astra(connection_to(server.url)))
    assert made.returncode == 1
    assert "column roles of table users is text and must be set<text>" in made.stderr
    assert run(tmp_path, "schema", "check", **astra(connection_to(server.url))).returncode == 1


def test_schema_on_sqlite_says_that_there_is_nothing_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "schema", "create")
    assert (done.returncode, "needs no schema" in done.stderr) == (1, True)


@pytest.mark.parametrize("after_write", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["login_credentials", "users"])
def test_a_crash_at_any_step_of_a_registration(tmp_path: Path, name: str, after_write: bool) -> None:
    email = an_address()
    with prepared_stand_in() as (server, _):
        with (
            running(tmp_path, **astra(connection_to(server.url))) as service,
            grpc.insecure_channel(service.target) as channel,
        ):
            server.fail(Hang(), command="insertOne", name=name, after_write=after_write, times=1)
            call = Thread(target=attempt, args=(UserServiceStub(channel), email))
            call.start()
            server.wait_for(command="insertOne", name=name)
            exists = after_write or name == "users"
            server.wait_until(lambda: bool(server.documents(KEYSPACE, "login_credentials")) == exists)
            service.process.kill()
            call.join(30)
        with (
            running(tmp_path, **astra(connection_to(server.url))) as service,
            grpc.insecure_channel(service.target) as channel,
        ):
            stub = UserServiceStub(channel)
            assert attempt(stub, email) is (grpc.StatusCode.ALREADY_EXISTS if exists else grpc.StatusCode.OK)
            token = stub.Login(LoginRequest(email=email, password=PASSWORD)).token
            me = stub.GetMe(GetMeRequest(), metadata=(("authorization", f"Bearer {token}"),))
            assert (me.email, list(me.roles), me.account_status) == (email, ["viewer"], "active")


def test_repair_by_command(tmp_path: Path) -> None:
    with prepared_stand_in() as (server, _):
        with (
            running(tmp_path, **astra(connection_to(server.url))) as service,
            grpc.insecure_channel(service.target) as channel,
        ):
            with server.fail(HttpStatus(500), command="insertOne", name="users"):
                user_id = UserServiceStub(channel).Register(registration(an_address())).user_id
            assert server.row(KEYSPACE, "users", user_id) is None
        done = run(tmp_path, "schema", "check", "--repair", **astra(connection_to(server.url)))
        assert (done.returncode, "Rows repaired: 1" in done.stdout) == (0, True)
        assert server.row(KEYSPACE, "users", user_id)


def test_roles_by_command(tmp_path: Path) -> None:
    with prepared_stand_in() as (server, _):
        with (
            running(tmp_path, **astra(connection_to(server.url))) as service,
            grpc.insecure_channel(service.target) as channel,
        ):
            UserServiceStub(channel).Register(registration("ann@example.org"))
        done = run(tmp_path, "roles", "assign", "ann@example.org", "moderator", **astra(connection_to(server.url)))
        assert (done.returncode, done.stdout) == (0, "viewer\nmoderator\n")


def test_a_start_waits_for_a_data_api_that_is_away(tmp_path: Path) -> None:
    log, pause = tmp_path / "service.log", Event()

    def let_it_answer_once_missed(server: data_api.DataApi) -> None:
        while not log.exists() or "waiting for the store" not in log.read_text():
            pause.wait(0.01)
        server.clear_faults()

    with prepared_stand_in() as (server, connection):
        with running(tmp_path, **astra(connection)) as service:
            assert service.stop() == 0  # one that is there needs no waiting
        server.fail(Close())
        Thread(target=let_it_answer_once_missed, args=[server], daemon=True).start()
        with running(tmp_path, **astra(connection)) as service, grpc.insecure_channel(service.target) as channel:
            assert UserServiceStub(channel).Register(registration(an_address())).user_id


def test_a_refused_password_stops_the_start_and_is_not_shown(server: data_api.DataApi, tmp_path: Path) -> None:
    wrong = astra(connection_to(server.url)) | {"ASTRA_DB_PASSWORD": "planted-wrong"}
    for command in (["serve"], ["schema", "create", "--keyspace"], ["schema", "check"]):
        done = run(tmp_path, *command, **wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert "does not let us in" in done.stderr
        assert "planted-wrong" not in done.stderr
    shown = run(tmp_path, "config", "check", **astra(connection_to(server.url)))
    assert DATABASE_PASSWORD not in shown.stdout
    assert "ASTRA_DB_PASSWORD=**********" in shown.stdout


def test_a_request_that_is_refused_is_a_clear_error(tmp_path: Path) -> None:
    with prepared_stand_in() as (server, connection):
        server.fail(ErrorAnswer("UNKNOWN_TABLE_COLUMNS", family="REQUEST"), command="findOne")
        for command in (["roles", "list", "ann@example.org"], ["roles", "assign", "ann@example.org", "creator"]):
            done = run(tmp_path, *command, **astra(connection))
            assert (done.returncode, done.stdout) == (1, "")
            assert "UNKNOWN_TABLE_COLUMNS" in done.stderr
            assert "Traceback" not in done.stderr


def test_missing_settings_are_named_together(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", STORE="astra", SECRET_KEY="")
    assert done.returncode == 1
    for name in ("ASTRA_DB_API_ENDPOINT", "ASTRA_DB_APPLICATION_TOKEN", "ASTRA_DB_USERNAME", "SECRET_KEY"):
        assert name in done.stderr


def registration(email: str) -> RegisterRequest:
    return RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee")


def attempt(stub: UserServiceStub, email: str) -> grpc.StatusCode:
    try:
        stub.Register(registration(email), timeout=30)
    except grpc.RpcError as error:
        return read_failure(error).code
    return grpc.StatusCode.OK
