"""An edge with a sibling beside the service."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from killrvideo_grpc.edge.render import Edge as EdgeSettings
from killrvideo_grpc.server.dev_server import DEVELOPMENT_ORIGINS
from tests.rest.conftest import Account, Address, envoy, is_ready
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import running_server
from tests.support.settings import settings_in
from tests.support.sibling import Sibling, running_sibling
from tests.support.stores import FlakyStore


@dataclass
class Site(Address):
    """An edge in front of the service and of a sibling."""

    settings: EdgeSettings
    sibling: Sibling
    store: FlakyStore
    service: str  # its address
    client: httpx.Client
    database: Path

    def reaches_sibling(self, method: str, path: str, **options: Any) -> bool:
        """Send a request, and return whether the sibling gets it. Otherwise it must fail."""
        before = len(self.sibling.received)
        answer = self.client.request(method, path, **options)
        received = len(self.sibling.received) > before
        assert received or answer.status_code >= 400
        return received

    def change(self, account: Account, column: str, value: str) -> None:
        """Change a column of an account's row."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(f"UPDATE accounts SET {column} = ? WHERE userid = ?", (value, account.user_id))


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Run a site whose store is in `folder`."""
    database, port = folder / "killrvideo.db", free_port()
    store = FlakyStore(database)
    with running_sibling() as sibling, running_server(settings_in(folder), store) as service:
        workers, siblings = [("127.0.0.1", service.port)], ("localhost", sibling.port)
        settings = EdgeSettings(port=port, workers=workers, origins=DEVELOPMENT_ORIGINS, siblings=siblings)
        url = f"http://127.0.0.1:{port}"
        with envoy(settings), httpx.Client(verify=False, base_url=url, timeout=30) as client:
            eventually(lambda: is_ready(client))
            yield Site(url, settings, sibling, store, service.target, client, database)
