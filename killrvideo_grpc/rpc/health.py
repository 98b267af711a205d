"""Health checks: `""` is the liveness of the process, and the service's name is its readiness, store included."""

import asyncio
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.rpc.call import Context

Status = health_pb2.HealthCheckResponse

# Seconds between checks of the store while it answers, and while it does not, and the timeout of a check. A call that
# fails because of the store brings the next check forward.
CALM, TROUBLED, PATIENCE = 5.0, 1.0, 2.0

_log = structlog.get_logger("killrvideo_grpc.health")


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Serves grpc.health.v1. Each watcher waits in its own task, so one that stops reading delays no other."""

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {"": Status.SERVING}
        self._changed = asyncio.Event()
        self._is_stopping = self._is_over = False

    def set(self, service: str, *, serving: bool) -> None:
        """Sets the status of a service and notifies its watchers."""
        if not self._is_stopping:
            self._statuses[service] = Status.SERVING if serving else Status.NOT_SERVING
            self._notify()

    def stop_serving(self) -> None:
        """Sets every status to NOT_SERVING, permanently."""
        for service in self._statuses:
            self.set(service, serving=False)
        self._is_stopping = True

    def end_watches(self) -> None:
        """Ends the streams of all watchers; otherwise the server would wait for them when it stops."""
        self._is_over = True
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
        told = None
        while not (told and self._is_over):
            changed, status = self._changed, self._statuses.get(request.service, Status.SERVICE_UNKNOWN)
            if status != told:
                await context.write(Status(status=status))
                told = status
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
        self._serving: bool | None = None

    async def start(self) -> None:
        """Checks once, then keeps checking in the background."""
        await self._look()
        self._task = asyncio.create_task(self._watch())

    def look_soon(self) -> None:
        """Brings the next check forward, unless the store is known to be down, when the next check is soon anyway."""
        if self._serving:
            self._wake.set()

    async def stop(self) -> None:
        """Stops checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CALM if self._serving else TROUBLED):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._store.ping()
            serving = True
        except Exception:  # whatever the cause, the store can't be relied on
            serving = False
        if serving != self._serving:
            self._serving = serving
            _log.info("store answers") if serving else _log.error("store does not answer")
            self._servicer.set(self._service, serving=serving)
