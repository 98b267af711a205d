"""The services, in one document of the collection `accounts`.

_id        index:services
revision   new at each write
services   [{name, grants, tokens: [{digest, created}]}]
"""

from typing import Any

from killrvideo_grpc.domain.services import Service, Services, ServicesChange, ServiceToken
from killrvideo_grpc.stores.astra.revisions import new_revision, until_written, write
from killrvideo_grpc.stores.data_api.client import DataApi, Document

SERVICES_ID = "index:services"
READ_SECONDS = 5.0  # MAX_AGE in service_authentication.py relies on it


async def read_services(api: DataApi) -> Services:
    """Return all services, by name."""
    return _services(await api.find_document(SERVICES_ID, seconds=min(READ_SECONDS, api.max_wait)))


async def change_services(api: DataApi, change: ServicesChange) -> None:
    """Apply a change by compare-and-set. After a lost answer it is applied to its own result."""

    async def step() -> bool | None:
        document = await api.find_document(SERVICES_ID)
        entries = [_entry(service) for service in change(_services(document)).values()]
        new = {"_id": SERVICES_ID, **(document or {}), "revision": new_revision(), "services": entries}
        return await write(api, document, new) or None

    async with api.within("change services"):
        await until_written(step)


def _services(document: Document | None) -> Services:
    entries = document["services"] if document else []
    return {entry["name"]: _service(entry) for entry in entries}


def _service(entry: dict[str, Any]) -> Service:
    tokens = tuple(ServiceToken(token["digest"], token["created"]) for token in entry["tokens"])
    return Service(entry["name"], frozenset(entry["grants"]), tokens)


def _entry(service: Service) -> dict[str, Any]:
    tokens = [{"digest": token.digest, "created": token.created_date} for token in service.tokens]
    return {"name": service.name, "grants": sorted(service.grants), "tokens": tokens}
