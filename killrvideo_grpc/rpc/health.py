"""Health checks: `""` is the liveness of the process, and the service's name is its readiness, store included."""

import asyncio
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.rpc.call import Context

Status = health_pb2.HealthCheckResponse

CHECK_INTERVAL_UP, CHECK_INTERVAL_DOWN, CHECK_TIMEOUT = 5.0, 1.0, 2.0  # seconds

_log = structlog.get_logger()


class HealthServicer(health_pb2_grpc.HealthServicer):
    """The service grpc.health.v1. grpcio's own servicer would let one watcher that stops reading block all others."""

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {"": Status.SERVING}
        self._changed = asyncio.Event()
        self._is_stopping = self._has_ended = False

    def set(self, service: str, *, serving: bool) -> None:
        """Set the status of a service and notify its watchers."""
        if not self._is_stopping:
            self._statuses[service] = Status.SERVING if serving else Status.NOT_SERVING
            self._notify()

    def set_not_serving(self) -> None:
        """Set every status to NOT_SERVING, permanently."""
        for service in self._statuses:
            self.set(service, serving=False)
        self._is_stopping = True

    def end_watches(self) -> None:
        """End the streams of all watchers. A stopping server would wait for them."""
        self._has_ended = True
        self._notify()

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802 # the RPC's name
        status = self._statuses.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
        return Status(status=status)

    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802 # the RPC's name
        statuses = {name: Status(status=status) for name, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined] # the stubs are older

    async def Watch(self, request: Any, context: Context) -> None:  # noqa: N802 # the RPC's name
        last_sent = None
        while not (last_sent and self._has_ended):
            changed, status = self._changed, self._statuses.get(request.service, Status.SERVICE_UNKNOWN)
            if status != last_sent:
                await context.write(Status(status=status))
                last_sent = status
            else:
                await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class StoreHealth:
    """Checks regularly whether the store answers, and reports changes to the health servicer."""

    def __init__(self, servicer: HealthServicer, service: str, store: AccountStore) -> None:
        self._servicer = servicer
        self._service = service
        self._store = store
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_serving: bool | None = None

    async def start_checks(self) -> None:
        """Check once, then keep checking in the background."""
        await self._check()
        self._task = asyncio.create_task(self._keep_checking())

    def check_soon(self) -> None:
        """Bring the next check forward, after a call that failed because of the store."""
        if self._is_serving:  # while it isn't, checks are frequent
            self._wake.set()

    async def stop_checks(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_checking(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CHECK_INTERVAL_UP if self._is_serving else CHECK_INTERVAL_DOWN):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._check()

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._store.ping()
            is_serving = True
        except Exception:  # whatever the cause, the store can't be relied on
            is_serving = False
        if is_serving != self._is_serving:
            self._is_serving = is_serving
            _log.info("store answers") if is_serving else _log.error("store does not answer")
            self._servicer.set(self._service, serving=is_serving)
