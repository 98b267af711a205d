"""Services to call with."""

import asyncio
from pathlib import Path
from uuid import uuid4

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.ports import ServiceStore
from killrvideo_grpc.domain.services import Grant, ServiceToken, add_service
from killrvideo_grpc.security.service_tokens import new_service_token, service_digest
from killrvideo_grpc.stores.sqlite.store import SqliteStore


def a_name() -> str:
    """Return a name that no other service has."""
    return f"s{uuid4().hex[:12]}"


def stored(token: str) -> ServiceToken:
    """Return what a store keeps of a token."""
    return ServiceToken(service_digest(token) or "", now())


async def added(store: ServiceStore, *grants: Grant) -> str:
    """Add a service to a store, and return its token."""
    token = new_service_token(name := a_name())
    await store.change_services(add_service(name, grants, stored(token)))
    return token


def added_to_file(database: Path, *grants: Grant) -> str:
    """Add a service to an SQLite file, as the command does, and return its token."""

    async def work() -> str:
        store = SqliteStore(database)
        try:
            return await added(store, *grants)
        finally:
            await store.close()

    return asyncio.run(work())
