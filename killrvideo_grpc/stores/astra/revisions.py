"""Compare-and-set: a write changes a document only if it still has the revision that was read."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.stores.data_api.client import DataApi, Document, Update
from killrvideo_grpc.stores.data_api.errors import AlreadyExists, AnswerLost, Conflict

MAX_TRIES = 25
MAX_LOST = 2  # lost answers to writes after which the caller is told
PAUSE_SECONDS = 0.005  # between tries, times the number of the try

T = TypeVar("T")


def new_revision() -> str:
    """Return a revision that no other write has."""
    return secrets.token_urlsafe(12)


class DocumentLock(asyncio.Lock):
    """A lock on a document within this process. `latest` is what its last holder wrote."""

    latest: Document | None = None


class DocumentLocks:
    """The locks in use, by the `_id` of the document."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, DocumentLock] = WeakValueDictionary()

    def of(self, key: str) -> DocumentLock:
        """Return the lock of a document."""
        return self._locks.setdefault(key, DocumentLock())


async def until_written(step: Callable[[], Awaitable[T | None]], tries: int = MAX_TRIES) -> T:
    """Repeat a step, which reads, decides and writes, until it returns something.

    None means that another writer came first. Raise StoreUnavailable after too many tries or lost answers.
    """
    lost = 0
    for tried in range(1, tries + 1):
        try:
            answer = await step()
        except Conflict:
            answer = None
        except AnswerLost:
            lost += 1
            if lost == MAX_LOST:
                raise
            answer = None
        if answer is not None:
            return answer
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS * tried))  # noqa: S311 # needs no cryptographic randomness
    raise StoreUnavailable("too many conflicts")


async def write(api: DataApi, before: Document | None, after: Document) -> bool:
    """Replace a document, or insert it if `before` is None. Return False if another writer came first.

    Send only the top-level fields that differ. After Conflict or AnswerLost, the outcome is unknown.
    """
    if before is None:
        try:
            await api.insert_document(after)
        except AlreadyExists:
            return False
        return True
    update: Update = {"$set": {name: value for name, value in after.items() if before.get(name) != value}}
    if gone := before.keys() - after.keys():
        update["$unset"] = dict.fromkeys(sorted(gone), "")
    return await api.compare_and_set(before["revision"], update)
