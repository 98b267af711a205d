"""Accounts move in from KillrVideo's CSV files, tables and collections, and on from store to store."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import bcrypt
import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import (
    BatchGetUsersRequest,
    GetUserRequest,
    ListAuditEventsRequest,
    LoginRequest,
    SearchUsersRequest,
)
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.migration.account_file import header
from killrvideo_grpc.stores.data_api.client import Keyspace
from tests.e2e.callers import log_in
from tests.e2e.conftest import KEYSPACES
from tests.support.accounts import HASH, PASSWORD, an_address
from tests.support.calls import registration
from tests.support.killrvideo_database import beside, credential_emails, put_collection, put_tables, user_rows
from tests.support.migration import Row, killrvideo_rows, write_csv
from tests.support.process import Service, astra, run, running

DOCS = Path(__file__).parents[2] / "docs" / "moving-in.md"
USERS, CREDENTIALS = (rows[:45] for rows in killrvideo_rows())  # three pages of a Data API
IDS = [row["userid"] for row in USERS]
OLD_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2a")).decode()
SECRETS = [OLD_HASH, *(row["password"] for row in CREDENTIALS)]


@pytest.fixture(scope="module", params=list(KEYSPACES))
def source(request: pytest.FixtureRequest) -> Iterator[Keyspace]:
    """A keyspace that KillrVideo and this service share."""
    with KEYSPACES[request.param]() as keyspace:
        put_tables(keyspace, USERS, CREDENTIALS)
        yield keyspace


def report(folder: Path, *arguments: str, **settings: str) -> str:
    """Run `accounts` and return what it prints. It succeeds, and shows no hash."""
    done = run(folder, "accounts", *arguments, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert not [secret for secret in SECRETS if secret in done.stdout]
    return done.stdout


class Moderator:
    """Calls a service as a moderator."""

    def __init__(self, folder: Path, service: Service, channel: grpc.Channel, **settings: str) -> None:
        self.stub, email = UserServiceStub(channel), an_address()
        self.stub.Register(registration(email))
        assert run(folder, "roles", "assign", email, "moderator", **settings).returncode == 0
        self.metadata = (("authorization", f"Bearer {log_in(self.stub, email).token}"),)

    def profiles(self, ids: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for start in range(0, len(ids), 100):
            request = BatchGetUsersRequest(user_ids=ids[start : start + 100])
            found |= {user.user_id: user for user in self.stub.BatchGetUsers(request, metadata=self.metadata).users}
        return found

    def search(self, text: str) -> list[Any]:
        return list(self.stub.SearchUsers(SearchUsersRequest(query=text), metadata=self.metadata).users)

    def events(self, user_id: str) -> list[Any]:
        return list(self.stub.ListAuditEvents(ListAuditEventsRequest(user_id=user_id), metadata=self.metadata).events)


def assert_all_moved_in(moderator: Moderator) -> None:
    profiles = moderator.profiles(IDS)
    assert {user_id: (user.first_name, user.last_name) for user_id, user in profiles.items()} == {
        row["userid"]: (row["firstname"], row["lastname"]) for row in USERS
    }
    for number, status in ((3, "suspended"), (10, "suspended"), (15, "suspended"), (20, "active")):
        (user,) = moderator.search(USERS[number]["email"])
        assert (user.user_id, user.account_status, list(user.roles)) == (IDS[number], status, ["viewer"])
    (event,) = moderator.events(IDS[15])
    assert (event.action, event.before, event.after) == ("imported", "active,locked", "viewer")
    assert event.actor.startswith("cli:")
    with pytest.raises(grpc.RpcError, match="Incorrect email or password"):
        moderator.stub.Login(LoginRequest(email=USERS[20]["email"], password=CREDENTIALS[20]["password"]))


def test_csv_files_move_in_while_the_service_runs(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", USERS, CREDENTIALS)
    command = ("import", "--from-killrvideo", "csv", str(folder))
    assert "Would import: 45. Already there: 0. Refused: 0.\n" in report(tmp_path, *command, "--dry-run")
    assert not (tmp_path / "killrvideo.db").exists()
    with running(tmp_path) as service, grpc.insecure_channel(service.target) as channel:
        moderator = Moderator(tmp_path, service, channel)
        assert moderator.profiles(IDS) == {}
        text = report(tmp_path, *command)
        assert "Imported: 45. Already there: 0. Refused: 0.\n" in text
        assert "can't be checked: 45 (64 hexadecimal digits: 45)" in text
        assert_all_moved_in(moderator)
        assert report(tmp_path, *command) == "Imported: 0. Already there: 45. Refused: 0.\n"
    file = tmp_path / "accounts.jsonl"
    report(tmp_path, "export", str(file))
    found = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    imported = [each for each in found if each["user_id"] in IDS]
    assert sorted(each["account_status"] for each in imported) == ["active"] * 25 + ["suspended"] * 20
    assert {each["password_hash"] for each in imported} == {""}


def test_tables_move_to_sqlite(tmp_path: Path, source: Keyspace) -> None:
    settings = astra(source) | {"STORE": "sqlite", "ASTRA_DB_KEYSPACE": "elsewhere"}
    command = ("import", "--from-killrvideo", "tables", "--keyspace", source.name)
    assert "Would import: 45." in report(tmp_path, *command, "--dry-run", **settings)
    assert "Imported: 45. Already there: 0. Refused: 0.\n" in report(tmp_path, *command, **settings)
    with running(tmp_path) as service, grpc.insecure_channel(service.target) as channel:
        assert_all_moved_in(Moderator(tmp_path, service, channel))
    wrong = run(tmp_path, "accounts", "import", "--from-killrvideo", "tables", **settings)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "There is no keyspace elsewhere" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_tables_move_in_where_they_are(tmp_path: Path, source: Keyspace) -> None:
    settings = astra(source)
    moderator_row = an_old_moderator()
    lonely = a_user_without_credentials()
    put_tables(source, [moderator_row, lonely], [credential_of(moderator_row)])
    command = ("import", "--from-killrvideo", "tables")
    planned = report(tmp_path, *command, "--dry-run", **settings)
    assert "Would import: 47 (1 profile only)." in planned
    assert re.search(r"Rows of the table users that would change.*: 15\.", planned)
    with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
        moderator = Moderator(tmp_path, service, channel, **settings)
        text = report(tmp_path, *command, **settings)
        assert "Imported: 47 (1 profile only). Already there: 1. Refused: 0.\n" in text
        assert f"{moderator_row['userid']}: moderator: Old Moderator\n" in text
        assert f"{lonely['userid']}: profile only: it has no credentials\n" in text
        assert "still has 46 passwords" in text
        assert_all_moved_in(moderator)
        login = log_in(moderator.stub, moderator_row["email"])
        assert list(login.user.roles) == ["viewer", "moderator"]
        profile = moderator.stub.GetUser(GetUserRequest(user_id=lonely["userid"]))
        assert profile.last_name == "Lonely"
        (found,) = moderator.search("Lonely")
        assert (found.email, list(found.roles)) == ("", ["viewer"])
        assert moderator.search(lonely["email"]) == []
    rows = user_rows(source)
    assert {str(user_id) for user_id in rows} >= set(IDS)
    assert "Imported: 0. Already there: 48. Refused: 0.\n" in report(tmp_path, *command, **settings)
    kept = credential_of({"userid": str(uuid4()), "email": "not an address"})
    put_tables(source, [], [kept])
    planned = report(tmp_path, *command, "--purge-credentials", "--dry-run", **settings)
    assert "Would delete from the table user_credentials: 46.\n" in planned
    purged = report(tmp_path, *command, "--purge-credentials", **settings)
    assert "Deleted from the table user_credentials: 46.\n" in purged
    assert credential_emails(source) == {"not an address"}


def an_old_moderator() -> Row:
    user = dict(USERS[20]) | {"userid": str(uuid4()), "email": an_address(), "account_status": "moderator"}
    return user | {"firstname": "Old", "lastname": "Moderator"}


def a_user_without_credentials() -> Row:
    return dict(USERS[20]) | {"userid": str(uuid4()), "email": an_address(), "lastname": "Lonely"}


def credential_of(user: Row) -> Row:
    return {"email": user["email"], "password": OLD_HASH, "userid": user["userid"], "account_locked": "false"}


def test_collections_move_in(tmp_path: Path, source: Keyspace) -> None:
    collections = beside(source, f"{source.name}_c")
    put_collection(
        collections,
        [
            {
                "userid": row["userid"],
                "firstname": row["firstname"],
                "lastname": row["lastname"],
                "email": row["email"],
                "hashed_password": HASH.replace("$2b$", "$2a$"),
                "roles": "moderator" if number == 0 else "viewer",
                "created_date": row["created_date"].replace("Z", "456789Z"),
            }
            for number, row in enumerate(USERS)
        ],
    )
    settings = astra(source) | {"STORE": "sqlite"}
    command = ("import", "--from-killrvideo", "collections", "--keyspace", collections.name)
    text = report(tmp_path, *command, "--dry-run", **settings)
    assert "Would import: 45. Already there: 0. Refused: 0.\n" in text
    assert f"users {IDS[0]}: its role is not taken over" in text
    text = report(tmp_path, *command, "--trust-roles", **settings)
    assert f"users {IDS[0]}: moderator: " in text
    roles = run(tmp_path, "roles", "list", USERS[0]["email"])
    assert roles.stdout == "viewer\nmoderator\n"
    for kind, keyspace in (("tables", collections), ("collections", source)):
        wrong = run(tmp_path, "accounts", "import", "--from-killrvideo", kind, "--keyspace", keyspace.name, **settings)
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert f"use --from-killrvideo {'collections' if kind == 'tables' else 'tables'}" in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1


def test_the_recipe_moves_everybody_from_sqlite_to_a_data_api(tmp_path: Path, source: Keyspace) -> None:
    leave, arrive = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    email = an_address()
    with running(tmp_path) as service, grpc.insecure_channel(service.target) as channel:
        before = log_in(registered(channel, email), email)
    follow(tmp_path, leave)
    follow(tmp_path, arrive, **astra(source))
    with running(tmp_path, **astra(source)) as service, grpc.insecure_channel(service.target) as channel:
        after = log_in(UserServiceStub(channel), email)
    before.user.last_login_date.CopyFrom(after.user.last_login_date)
    assert after.user == before.user
    assert not (tmp_path / "accounts.jsonl").exists()


def registered(channel: grpc.Channel, email: str) -> UserServiceStub:
    stub = UserServiceStub(channel)
    stub.Register(registration(email))
    return stub


def follow(folder: Path, script: str, **settings: str) -> None:
    for program, *arguments in map(shlex.split, script.splitlines()):
        if program == "killrvideo-grpc":
            assert run(folder, *arguments, **settings).returncode == 0
        else:
            subprocess.run([program, *arguments], cwd=folder, check=True, timeout=60)


def test_an_import_from_a_data_api_needs_credentials(tmp_path: Path) -> None:
    settings = {"ASTRA_DB_API_ENDPOINT": "http://127.0.0.1:9", "ASTRA_DB_USERNAME": "ann"}
    done = run(tmp_path, "accounts", "import", "--from-killrvideo", "tables", **settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Set ASTRA_DB_API_ENDPOINT and its credentials" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name the FILE"),
        (("--from-killrvideo", "csv"), "Name the folder"),
        (("--from-killrvideo", "tables", "x"), "not from x"),
        (("--from-killrvideo", "csv", "x", "--keyspace", "k"), "--keyspace"),
        (("--from-killrvideo", "tables", "--keyspace", "a b"), "--keyspace"),
        (("--from-killrvideo", "tables", "--trust-roles"), "--trust-roles"),
        (("--from-killrvideo", "collections", "--purge-credentials"), "--purge-credentials"),
        (("--from-killrvideo", "tables"), "Set ASTRA_DB_API_ENDPOINT"),
        (("--from-killrvideo", "csv", "nowhere"), "nowhere/users.csv can't be read: No such file"),
        (("nowhere",), "nowhere can't be read: No such file"),
        ((".",), "can't be read: Is a directory"),
        (("bad.jsonl",), "This is no file of accounts"),
        (("newer.jsonl",), "another version than 1"),
    ],
)
def test_what_cannot_be_imported_is_one_message(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "newer.jsonl").write_bytes(header().replace(b"1", b"2"))
    done = run(tmp_path, "accounts", "import", *arguments)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "killrvideo.db").exists()


def test_masked_addresses_stop_the_import(tmp_path: Path) -> None:
    masked = [row | {"email": re.sub(r"(?<=.).*(?=.@)", "****", row["email"])} for row in USERS]
    folder = write_csv(tmp_path / "csv", masked, CREDENTIALS)
    done = run(tmp_path, "accounts", "import", "--from-killrvideo", "csv", str(folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert "users.csv line 2 is masked. Grant the database user UNMASK" in done.stderr
    assert not (tmp_path / "killrvideo.db").exists()


def test_there_is_nothing_to_export(tmp_path: Path) -> None:
    done = run(tmp_path, "accounts", "export", "accounts.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no database at" in done.stderr
    assert list(tmp_path.iterdir()) == []
