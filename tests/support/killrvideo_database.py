"""KillrVideo's own tables and collections on a Data API, the fake or a real one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from astrapy import Database

from killrvideo_grpc.stores.data_api.client import Keyspace
from tests.support.migration import Row

USER_COLUMNS = {
    "userid": "uuid",
    **dict.fromkeys(["email", "firstname", "lastname", "account_status"], "text"),
    **dict.fromkeys(["created_date", "last_login_date"], "timestamp"),
}
CREDENTIAL_COLUMNS = {"email": "text", "password": "text", "userid": "uuid", "account_locked": "boolean"}


def put_tables(keyspace: Keyspace, users: Sequence[Row], credentials: Sequence[Row]) -> None:
    """Create the tables where they are missing, and write the rows. Empty values are left out."""
    database = _opened(keyspace)
    _put_rows(database, "users", USER_COLUMNS, "userid", users)
    _put_rows(database, "user_credentials", CREDENTIAL_COLUMNS, "email", credentials)


def put_collection(keyspace: Keyspace, documents: Iterable[dict[str, Any]]) -> None:
    """Create the keyspace and its collection `users`, and insert the documents."""
    definition: dict[str, Any] = {"indexing": {"deny": ["*"]}, "lexical": {"enabled": False}}
    collection = _opened(keyspace).create_collection("users", definition=definition)
    for document in documents:
        collection.insert_one(document)


def credential_emails(keyspace: Keyspace) -> set[str]:
    """Return the addresses in `user_credentials`."""
    table = keyspace.open().to_sync().get_table("user_credentials")
    return {row["email"] for row in table.find({}, projection={"email": True})}


def user_rows(keyspace: Keyspace) -> dict[UUID, dict[str, Any]]:
    """Return the rows of `users` by id."""
    return {row["userid"]: row for row in keyspace.open().to_sync().get_table("users").find({})}


def beside(keyspace: Keyspace, name: str) -> Keyspace:
    """Return another keyspace of the same database."""
    return replace(keyspace, name=name)


def _put_rows(database: Database, name: str, columns: dict[str, str], key: str, rows: Sequence[Row]) -> None:
    definition = {"columns": columns, "primaryKey": {"partitionBy": [key], "partitionSort": {}}}
    table = database.create_table(name, definition=definition, if_not_exists=True)
    for row in rows:
        table.insert_one({column: _value(columns[column], text) for column, text in row.items() if text})


def _opened(keyspace: Keyspace) -> Database:
    database = keyspace.open().to_sync()
    database.get_database_admin().create_keyspace(keyspace.name)
    return database


def _value(kind: str, text: str) -> Any:
    match kind:
        case "uuid":
            return UUID(text)
        case "timestamp":
            return datetime.fromisoformat(text)
        case "boolean":
            return text == "true"
        case _:
            return text
