"""Counters of attempts on a Data API: SHARDS documents in `accounts`, each with a share of the slots.

_id    throttle:<number of the shard>
s<n>   slot n of the shard, with a value as attempt_values.py defines it

There are many shards because concurrent updates of one document conflict.
"""

import asyncio
from collections.abc import Sequence

from killrvideo_grpc.domain.ports import SLOTS, AttemptCounter
from killrvideo_grpc.stores.attempt_values import beginning, count_of, is_of_distant_window, is_of_window
from killrvideo_grpc.stores.data_api.client import DataApi, Update

SHARDS = 2048
SLOTS_IN_SHARD = SLOTS // SHARDS  # a Data API allows 1,000 fields per document


class Attempts:
    """Implements `AttemptCounters`."""

    def __init__(self, api: DataApi) -> None:
        self._api = api

    async def read(self, counters: Sequence[AttemptCounter]) -> list[int]:
        """Return the counts in the order of the counters, with one request."""
        places = [_place(counter) for counter in counters]
        keys, fields = {key for key, _ in places}, {field for _, field in places}
        found = await self._api.find_documents(keys, fields=fields) if counters else {}
        values = [found.get(key, {}).get(field, 0) for key, field in places]
        return [count_of(counter.window, value) for counter, value in zip(counters, values, strict=True)]

    async def count(self, counters: Sequence[AttemptCounter]) -> list[int]:
        """Add one to each counter, concurrently, and return the new counts."""
        async with self._api.within("count attempt"):
            return await asyncio.gather(*map(self._count, counters))

    async def _count(self, counter: AttemptCounter) -> int:
        key, field = _place(counter)
        value = await self._update(key, field, {"$inc": {field: 1}})
        if not is_of_window(counter.window, value):  # this is the first attempt of its window
            begin = "$set" if is_of_distant_window(counter.window, value) else "$max"
            await self._update(key, field, {begin: {field: beginning(counter.window)}})
            value = await self._update(key, field, {"$inc": {field: 1}})
        return count_of(counter.window, value)

    async def _update(self, key: str, field: str, update: Update) -> int:
        after = await self._api.upsert_document(key, update, [field])
        return int((after or {}).get(field, 0))


def _place(counter: AttemptCounter) -> tuple[str, str]:
    shard, slot = divmod(counter.slot, SLOTS_IN_SHARD)
    return f"throttle:{shard}", f"s{slot}"
