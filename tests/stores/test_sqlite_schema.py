"""Migrations of older files, and what is kept of a newer version."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.changes import AssignRole, RevokeRole
from killrvideo_grpc.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS
from killrvideo_grpc.stores.sqlite.store import SqliteStore
from tests.support.accounts import HASH, a_cause, an_account

pytestmark = pytest.mark.anyio

VERSION_3 = 3  # whose sessions name the password that they were opened with


async def test_sessions_of_an_older_password_end_with_the_upgrade(tmp_path: Path) -> None:
    path, user_id = tmp_path / "accounts.db", "11111111-1111-4111-8111-111111111101"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("search_terms", 3, lambda *_: "[]")
        for statements in MIGRATIONS[:VERSION_3]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION_3}")
        columns = "userid, claimed_email, email, firstname, lastname, roles, account_status, credential_id"
        values = (user_id, "a@x.org", "a@x.org", "Ann", "Lee", '["viewer"]', "active", "new")
        connection.execute(
            f"INSERT INTO accounts ({columns}, hashed_password, created_date) VALUES (?{', ?' * 7}, 'h', 0)", values
        )
        for session, credential in (("live", "new"), ("dead", "old")):
            connection.execute(
                "INSERT INTO sessions (userid, session_id, credential_id, generation, created_date, refreshed_date,"
                " user_agent) VALUES (?, ?, ?, 1, 0, 0, '')",
                (user_id, session, credential),
            )
    store = SqliteStore(path)
    found = await store.find_credentials("a@x.org")
    await store.close()
    assert found
    assert found.account.sessions.keys() == {"live"}


async def test_roles_of_a_newer_version_are_kept(tmp_path: Path) -> None:
    path, account = tmp_path / "accounts.db", an_account()
    store = SqliteStore(path)
    await store.register(account, HASH, a_cause(account))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('UPDATE accounts SET roles = \'["critic", "viewer"]\'')
    await store.apply(account.user_id, AssignRole(Role.CREATOR), a_cause(account))
    changed = await store.apply(account.user_id, RevokeRole(Role.VIEWER), a_cause(account))
    await store.close()
    assert changed.roles == {Role.CREATOR}
    with closing(sqlite3.connect(path)) as connection:
        ((roles,),) = connection.execute("SELECT roles FROM accounts").fetchall()
    assert sorted(roles.strip("[]").split(",")) == ['"creator"', '"critic"']
