"""The real SQLite store, with trouble on demand."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from uuid import UUID

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.user import Credentials, User
from killrvideo_grpc.stores.sqlite import SqliteStore


class FlakyStore(SqliteStore):
    """Looks for credentials only while `go_on` is set, and then fails with `error` if there is one.

    `waiting` is set once a call has come so far. `reads` counts the accounts read by id, `on_read` comes before each.
    """

    on_read: Callable[[], object]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.error: Exception | None = None
        self.waiting, self.go_on = Event(), Event()
        self.go_on.set()
        self.reads = 0
        self.on_read = lambda: None

    def ping(self) -> None:
        if isinstance(self.error, StoreUnavailable):
            raise self.error
        super().ping()

    def find_credentials(self, email: str) -> Credentials | None:
        self.waiting.set()
        self.go_on.wait(20)
        if self.error:
            raise self.error
        return super().find_credentials(email)

    def get(self, user_id: UUID) -> User | None:
        self.reads += 1
        self.on_read()
        return super().get(user_id)
