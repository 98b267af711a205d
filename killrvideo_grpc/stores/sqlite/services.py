"""Services in the SQLite file: one row each."""

import json
import sqlite3

from killrvideo_grpc.domain.services import Service, Services, ServicesChange, ServiceToken
from killrvideo_grpc.stores.sqlite.rows import from_millis, to_millis


def read_services(connection: sqlite3.Connection) -> Services:
    """Return all services, by name."""
    rows = connection.execute("SELECT name, grants, tokens FROM services").fetchall()
    return {name: Service(name, frozenset(json.loads(grants)), _tokens(tokens)) for name, grants, tokens in rows}


def change_services(connection: sqlite3.Connection, change: ServicesChange) -> None:
    """Apply a change, within the caller's transaction."""
    rows = [
        (
            service.name,
            json.dumps(sorted(service.grants)),
            json.dumps([(token.digest, to_millis(token.created_date)) for token in service.tokens]),
        )
        for service in change(read_services(connection)).values()
    ]
    connection.execute("DELETE FROM services")
    connection.executemany("INSERT INTO services (name, grants, tokens) VALUES (?, ?, ?)", rows)


def _tokens(text: str) -> tuple[ServiceToken, ...]:
    return tuple(ServiceToken(digest, from_millis(created)) for digest, created in json.loads(text))
