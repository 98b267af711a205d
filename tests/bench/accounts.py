"""Accounts for the benchmark: a few registered over RPCs, or a million written directly to the database file."""

import random
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from killrvideo.user.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.stores.sqlite import schema as sqlite_schema
from tests.bench.processes import Server, service
from tests.support import tokens
from tests.support.accounts import PASSWORD

CREATED = 1_790_000_000_000
AT_ONCE = 8
RARE_NAME = "Zebulon"


@dataclass(frozen=True)
class Account:
    """An account, its token, and its response to GetMe."""

    email: str
    token: str
    user: user_pb2.User


@contextmanager
def served(accounts: int = 1, **settings: str) -> Iterator[tuple[Server, list[Account]]]:
    """Run the service as shipped on a new SQLite file, with some accounts."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder), **settings) as server:
        yield server, register(server.address, accounts)


def register(address: str, count: int = 1) -> list[Account]:
    """Register accounts over RPCs and log them in."""
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(AT_ONCE) as pool:
        stub = user_service_pb2_grpc.UserServiceStub(channel)
        return list(pool.map(lambda number: _register(stub, f"caller-{number:04}@example.org"), range(count)))


def _register(stub: user_service_pb2_grpc.UserServiceStub, email: str) -> Account:
    stub.Register(
        user_service_pb2.RegisterRequest(email=email, password=PASSWORD, first_name="Ann", last_name="Lee"), timeout=60
    )
    token = stub.Login(user_service_pb2.LoginRequest(email=email, password=PASSWORD), timeout=60).token
    return Account(email, token, _get_me(stub, token, 10))


def get_me(address: str, account: Account, seconds: float) -> user_pb2.User:
    """Call GetMe as the account's owner, on a new connection. Raise grpc.RpcError."""
    with grpc.insecure_channel(address) as channel:
        return _get_me(user_service_pb2_grpc.UserServiceStub(channel), account.token, seconds)


def _get_me(stub: user_service_pb2_grpc.UserServiceStub, token: str, seconds: float) -> user_pb2.User:
    request = user_service_pb2.GetMeRequest()
    return stub.GetMe(request, metadata=(("authorization", f"Bearer {token}"),), timeout=seconds)


def insert_accounts(file: Path, count: int, rare: int = 0) -> list[str]:
    """Put accounts with a session each into a new SQLite file and return their user ids.

    With RARE_NAME as the first name of some, they can be searched, and the last account is a moderator. Only this code
    in the benchmark knows the schema.
    """
    spread, source = 2**32 // count, random.Random(1)  # keys cover the whole range; inserting them sorted is fast
    ids = [f"{number * spread:08x}-0000-4000-8000-{source.getrandbits(48):012x}" for number in range(count)]
    with sqlite3.connect(file, isolation_level=None) as connection:
        sqlite_schema.migrate(connection, 5.0)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO accounts (userid, claimed_email, email, credential_id, hashed_password, firstname, lastname,"
            " account_status, roles, created_date)"
            " VALUES (?1, ?2, ?2, '-', '-', 'Ann', 'Lee', 'active', '[\"viewer\"]', ?3)",
            ((user_id, f"{number:07}@example.org", CREATED) for number, user_id in enumerate(ids)),
        )
        connection.executemany(
            "INSERT INTO sessions (userid, session_id, generation, created_date, refreshed_date, user_agent)"
            " VALUES (?1, ?1, 1, ?2, ?2, 'benchmark')",
            ((user_id, CREATED) for user_id in ids),
        )
        if rare:
            every = count // rare
            connection.executemany(
                "UPDATE accounts SET firstname = ?2 WHERE userid = ?1",
                ((user_id, RARE_NAME) for user_id in ids[: rare * every : every]),
            )
            connection.execute("UPDATE accounts SET roles = '[\"moderator\"]' WHERE userid = ?", (ids[-1],))
            connection.execute("DELETE FROM search_terms")
            connection.execute(sqlite_schema.FILL_SEARCH_TERMS)
        connection.execute("COMMIT")
    connection.close()
    return ids


def mint(user_id: str) -> str:
    """Signs a token for an account as the service would. The only place in the benchmark that knows the claims."""
    return tokens.signed(tokens.claims(user_id, session_id=user_id))
