"""Authentication of services by their tokens."""

import asyncio
import contextvars
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from killrvideo_grpc.domain.errors import Overloaded, StoreUnavailable, TokenInvalid
from killrvideo_grpc.domain.ports import ServiceStore
from killrvideo_grpc.domain.services import Service

MAX_AGE = 5.0  # seconds; a removed service must be refused within 10, and a read of the store may take 5
READ_INTERVAL = 1.0  # seconds between reads for unknown tokens
MAX_WAITING = 256  # calls with unknown tokens that wait for the next read


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """The service that makes a call."""

    service: Service

    @property
    def actor(self) -> str:
        """Its name in logs, metrics and the audit trail."""
        return f"service:{self.service.name}"


class ServiceAuthenticator:
    """Finds services by their tokens, in a copy of the store's services that is at most MAX_AGE old.

    A token that isn't in the copy waits for the next read: a new service works at once. `digest` returns the
    digest under which a token is stored, or None for text that can't be one.
    """

    def __init__(
        self, store: ServiceStore, digest: Callable[[str], str | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._digest = digest
        self._clock = clock
        self._by_digest: dict[str, Service] = {}
        self._read_at = -math.inf  # when the last successful read began
        self._next_read_at = self._retry_at = -math.inf
        self._refreshing: asyncio.Task[None] | None = None
        self._next_read: asyncio.Task[None] | None = None
        self._waiting = 0

    async def authenticate(self, token: str) -> ServicePrincipal:
        """Return the service of a token. Raise TokenInvalid, Overloaded or StoreUnavailable."""
        digest, arrived = self._digest(token), self._clock()
        if digest is None:
            raise TokenInvalid
        if self._read_at < arrived - MAX_AGE:
            await self._refresh()
        if digest not in self._by_digest and self._read_at < arrived:
            await self._wait_for_next_read()
        service = self._by_digest.get(digest)
        if service is None:
            raise TokenInvalid
        return ServicePrincipal(service)

    async def _refresh(self) -> None:
        """Read the services, or wait for the read in progress. Raise StoreUnavailable for a while after one failed."""
        if self._refreshing is None:
            if self._clock() < self._retry_at:
                raise StoreUnavailable
            # An empty context: the read belongs to no single call.
            self._refreshing = asyncio.create_task(self._read_now(), context=contextvars.Context())
        await asyncio.shield(self._refreshing)

    async def _wait_for_next_read(self) -> None:
        """Wait for a read that has yet to begin. Raise Overloaded if too many calls do."""
        if self._waiting >= MAX_WAITING:
            raise Overloaded
        self._waiting += 1
        try:
            if self._next_read is None:
                self._next_read = asyncio.create_task(self._read_after_pause(), context=contextvars.Context())
            await asyncio.shield(self._next_read)
        finally:
            self._waiting -= 1

    async def _read_now(self) -> None:
        try:
            await self._read()
        finally:
            self._refreshing = None

    async def _read_after_pause(self) -> None:
        while (pause := self._next_read_at - self._clock()) > 0:  # noqa: ASYNC110 # there is nothing to wait for
            await asyncio.sleep(pause)
        self._next_read = None
        await self._read()

    async def _read(self) -> None:
        began = self._clock()
        self._next_read_at = began + READ_INTERVAL
        try:
            services = await self._store.read_services()
        except StoreUnavailable:
            self._retry_at = self._next_read_at
            raise
        if began > self._read_at:
            self._by_digest = {token.digest: service for service in services.values() for token in service.tokens}
            self._read_at = began
