"""The whole life of accounts on a Data API, with real processes: on the fake and, if configured, on a real one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from uuid import uuid4

from killrvideo.user.v1.user_service_pb2 import (
    ChangePasswordRequest,
    DeleteMeRequest,
    EndSessionRequest,
    GetMeRequest,
    ListSessionsRequest,
    RefreshTokenRequest,
    UpdateMeRequest,
)

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.stores.astra.document import new_document
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, EVENTS_BY_DAY, USERS, Keyspace
from tests.e2e.callers import (
    Json,
    access,
    accounts_with,
    bearer,
    change_document,
    contents,
    insert_document,
    log_in,
    outcome,
    processes,
)
from tests.support.accounts import HASH, PASSWORD, a_cause, an_account, an_address
from tests.support.calls import registration
from tests.support.eventually import eventually
from tests.support.process import astra, run

NEW = "another password"
COMPLETE = " is up to date.\n"


def test_the_whole_life_of_an_account(tmp_path: Path, keyspace: Keyspace) -> None:
    email, settings = an_address(), astra(keyspace)
    with processes(tmp_path, keyspace) as (stub,):
        user_id = stub.Register(registration(email.upper())).user_id
        login = log_in(stub, email)
        me = stub.GetMe(GetMeRequest(), metadata=bearer(login))
        assert (me.user_id, me.email) == (user_id, email.upper())
        assert (list(me.roles), me.account_status) == (["viewer"], "active")
        assert me.last_login_date.ToMilliseconds() >= me.created_date.ToMilliseconds() > 0
        stub.UpdateMe(UpdateMeRequest(first_name="Bé ✓"), metadata=bearer(login))
        assert run(tmp_path, "roles", "assign", email, "moderator", **settings).returncode == 0
        me = stub.GetMe(GetMeRequest(), metadata=bearer(login))
        assert (me.first_name, me.last_name, list(me.roles)) == ("Bé ✓", "Lee", ["viewer", "moderator"])
        assert outcome(lambda: stub.Register(registration(email))) == "EMAIL_ALREADY_REGISTERED"

        refreshed = stub.RefreshToken(RefreshTokenRequest(refresh_token=login.refresh_token))
        second = log_in(stub, email)
        newest, oldest = stub.ListSessions(ListSessionsRequest(), metadata=bearer(refreshed)).sessions
        assert (newest.current, oldest.current) == (False, True)
        stub.EndSession(EndSessionRequest(session_id=newest.session_id), metadata=bearer(refreshed))
        assert [access(stub, each) for each in (login, refreshed, second)] == ["OK", "OK", "SESSION_ENDED"]

        change = ChangePasswordRequest(current_password=PASSWORD, new_password=NEW)
        changed = stub.ChangePassword(change, metadata=bearer(refreshed))
        assert [access(stub, each) for each in (login, refreshed, changed)] == ["SESSION_ENDED", "SESSION_ENDED", "OK"]
        assert outcome(lambda: log_in(stub, email)) == "INVALID_CREDENTIALS"
        assert access(stub, log_in(stub, email, NEW)) == "OK"

        leave = DeleteMeRequest(password=NEW)
        assert outcome(lambda: stub.DeleteMe(leave, metadata=bearer(changed))) == "LAST_MODERATOR"
        assert run(tmp_path, "roles", "revoke", email, "moderator", "--force", **settings).returncode == 0
        stub.DeleteMe(leave, metadata=bearer(changed))
        assert access(stub, changed) == "USER_NOT_FOUND"
        assert outcome(lambda: log_in(stub, email, NEW)) == "INVALID_CREDENTIALS"
        assert stub.Register(registration(email)).user_id != user_id
        assert access(stub, log_in(stub, email)) == "OK"


def test_racing_registrations_over_two_processes_make_one_account(tmp_path: Path, keyspace: Keyspace) -> None:
    """Of a new address, then of the same one after a deletion."""
    email, start = an_address(), Barrier(32)
    with processes(tmp_path, keyspace, 2) as stubs:

        def claim(number: int) -> str:
            start.wait(30)
            return outcome(lambda: stubs[number % 2].Register(registration(email), timeout=60))

        for _ in range(2):
            with ThreadPoolExecutor(32) as pool:
                outcomes = Counter(pool.map(claim, range(32)))
            assert outcomes == {"OK": 1, "EMAIL_ALREADY_REGISTERED": 31}
            login = log_in(stubs[1], email)
            # The accounts of the calls that lost the race are removed after they are answered.
            eventually(lambda: len(accounts_with(keyspace, email)) == 1)
            assert accounts_with(keyspace, email)[0]["_id"] == f"account:{login.user.user_id}"
            stubs[0].DeleteMe(DeleteMeRequest(password=PASSWORD), metadata=bearer(login))


def test_changes_by_another_program_take_effect_at_the_next_call(tmp_path: Path, keyspace: Keyspace) -> None:
    email = an_address()
    with processes(tmp_path, keyspace, 2) as stubs:
        user_id = stubs[0].Register(registration(email)).user_id
        login = log_in(stubs[0], email)

        def accesses() -> list[str]:
            return [access(stub, login) for stub in stubs]

        assert accesses() == ["OK", "OK"]
        change_document(keyspace, user_id, {"$set": {"status": "suspended"}})
        assert accesses() == ["ACCOUNT_SUSPENDED"] * 2
        assert outcome(lambda: log_in(stubs[1], email)) == "INVALID_CREDENTIALS"
        refresh = RefreshTokenRequest(refresh_token=login.refresh_token)
        assert outcome(lambda: stubs[1].RefreshToken(refresh)) == "ACCOUNT_SUSPENDED"
        change_document(keyspace, user_id, {"$set": {"status": "active", "roles": []}})
        assert accesses() == ["NO_ROLES_ASSIGNED"] * 2


def test_a_deleted_account_leaves_nothing_personal_and_no_secret_is_ever_kept(
    tmp_path: Path, keyspace: Keyspace
) -> None:
    planted = uuid4().hex
    email, password = f"{planted}@example.org", f"secret {planted}"
    request = registration(email, password=password, first_name=f"First {planted}", last_name=f"Last {planted}")
    with processes(tmp_path, keyspace) as (stub,):
        user_id = stub.Register(request).user_id
        login = log_in(stub, email, password)
        new = f"{password}!"
        change = ChangePasswordRequest(current_password=password, new_password=new)
        changed = stub.ChangePassword(change, metadata=bearer(login))
        (document,) = accounts_with(keyspace, email)
        password_hash = document["password_hash"]
        text = str(contents(keyspace))
        assert f"Last {planted}" in text
        assert password_hash.startswith("$2b$")
        secrets = [password, *(part for each in (login, changed) for part in (each.token, each.refresh_token))]
        assert [secret for secret in secrets if secret in text] == []
        stub.DeleteMe(DeleteMeRequest(password=new), metadata=bearer(changed))
        eventually(lambda: len(events(keyspace, ACCOUNT_EVENTS, user_id)) == 3)
        eventually(lambda: planted not in str(contents(keyspace)))
        assert password_hash not in str(contents(keyspace))
    for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY):
        assert events(keyspace, table, user_id) == ["deleted", "password_changed", "registered"]


def events(keyspace: Keyspace, table: str, user_id: str) -> list[str]:
    return sorted(row["action"] for row in contents(keyspace)[table] if row.get("account") == user_id)


def test_schema_commands(tmp_path: Path, keyspace: Keyspace) -> None:
    email, moderator, settings = an_address(), an_address(), astra(keyspace)

    def repair() -> str:
        done = run(tmp_path, "schema", "check", "--repair", **settings)
        assert done.returncode == 0, done.stderr
        schema, counts = done.stdout.splitlines(keepends=True)
        assert schema.endswith(COMPLETE)
        return counts

    def row() -> Json:
        return next((row for row in contents(keyspace)[USERS] if row["userid"] == user_id), {})

    assert run(tmp_path, "schema", "create", **settings).stdout.endswith(COMPLETE)
    assert run(tmp_path, "schema", "create", "--keyspace", **settings).stdout.endswith(COMPLETE)
    with processes(tmp_path, keyspace) as (stub,):
        user_id = stub.Register(registration(email)).user_id
        moderator_id = stub.Register(registration(moderator)).user_id
    repair()  # finishes whatever earlier tests left
    assert row()["firstname"] == "Ann"
    # An outdated row, a moderator who is missing from the index, and an unfinished registration.
    change_document(keyspace, user_id, {"$set": {"pending": "project", "firstname": "Bea"}})
    change_document(keyspace, moderator_id, {"$set": {"roles": ["viewer", "moderator"]}})
    orphan = an_account()
    document = new_document(orphan, HASH, a_cause(orphan).registration(orphan))
    insert_document(keyspace, document | {"written": now() - timedelta(hours=2)})
    assert repair() == (
        "Finished accounts: 1. Corrections of the moderator index: 1. Deleted unclaimed accounts: 1."
        " Freed addresses: 0.\n"
    )
    assert row()["firstname"] == "Bea"
    assert accounts_with(keyspace, orphan.email) == []
    assert repair() == (
        "Finished accounts: 0. Corrections of the moderator index: 0. Deleted unclaimed accounts: 0."
        " Freed addresses: 0.\n"
    )
    assert run(tmp_path, "roles", "revoke", moderator, "moderator", "--force", **settings).returncode == 0
