"""Health as callers see it: `""` is whether the process lives, the service's name is whether it can do its work."""

import threading

import structlog
from grpc_health.v1 import health, health_pb2

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import ServiceError
from killrvideo_grpc.domain.ports import UserStore

# Seconds between two looks at the store while it answers, and while it does not; trouble in a call brings the next one
# forward. And what one look may take.
CALM, TROUBLED, PATIENCE = 5.0, 1.0, 2.0

_log = structlog.get_logger("killrvideo_grpc.health")


class StoreHealth:
    """Asks the store now and then whether it can answer, and tells the health servicer."""

    def __init__(self, servicer: health.HealthServicer, service: str, store: UserStore) -> None:
        self._servicer = servicer
        self._service = service
        self._store = store
        self._wake, self._is_stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="store-health", daemon=True)
        self._serving: bool | None = None

    def start(self) -> None:
        """Looks once, then goes on looking in the background."""
        self._look()
        self._thread.start()

    def look_soon(self) -> None:
        """Brings the next look forward. While the store is away that one is near, and every call has trouble."""
        if self._serving:
            self._wake.set()

    def stop(self) -> None:
        """Says NOT_SERVING for every name, for good."""
        self._is_stopping = True
        self._wake.set()
        self._servicer.enter_graceful_shutdown()

    def _watch(self) -> None:
        while not self._is_stopping:
            self._look()
            self._wake.wait(CALM if self._serving else TROUBLED)
            self._wake.clear()

    def _look(self) -> None:
        try:
            with deadline.within(PATIENCE):
                self._store.ping()
            serving = True
        except ServiceError:
            serving = False
        if serving != self._serving:
            self._serving = serving
            _log.info("store answers") if serving else _log.error("store does not answer")
            status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            self._servicer.set(self._service, status)
