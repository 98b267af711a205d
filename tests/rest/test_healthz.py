"""`GET /healthz`, by which load balancers learn whether a worker is ready."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.edge.render import Edge as EdgeSettings
from tests.rest.conftest import envoy, problem
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import RunningServer, running_server
from tests.support.settings import settings_in
from tests.support.stores import FlakyStore


class CountedStore(FlakyStore):
    """A store that counts how often it is asked whether it answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pings = 0

    async def ping(self) -> None:
        self.pings += 1
        await super().ping()


@dataclass
class Site:
    """The edge of two workers and of a third that doesn't run."""

    workers: list[RunningServer]
    stores: list[CountedStore]
    client: httpx.Client

    def status(self) -> int:
        try:
            return self.client.get("/healthz").status_code
        except httpx.TransportError:
            return 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    stores = [CountedStore(tmp_path / "killrvideo.db") for _ in range(2)]
    with ExitStack() as stack:
        workers = [stack.enter_context(running_server(settings_in(tmp_path), store)) for store in stores]
        port = free_port()
        ports = [*(worker.port for worker in workers), free_port()]
        stack.enter_context(envoy(EdgeSettings(port=port, workers=[("127.0.0.1", worker) for worker in ports])))
        client = stack.enter_context(httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=30))
        site = Site(workers, stores, client)
        eventually(lambda: site.status() == 200)
        yield site


def test_one_worker_whose_store_answers_is_enough(site: Site) -> None:
    for store in site.stores:
        store.error = StoreUnavailable()
    eventually(lambda: site.status() == 503)
    answer = site.client.get("/healthz")
    problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert site.client.get("/").status_code == 200
    site.stores[1].error = None
    eventually(lambda: site.status() == 200)


def test_it_fails_while_all_workers_drain(site: Site) -> None:
    site.workers[0].report_not_serving()
    site.workers[1].stop(0)
    eventually(lambda: site.status() == 503)


def test_probes_do_not_ask_the_store(site: Site) -> None:
    before = sum(store.pings for store in site.stores)
    answers = [site.client.get("/healthz") for _ in range(300)]
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"")}
    assert sum(store.pings for store in site.stores) - before < 50


def test_what_probes_may_send(site: Site) -> None:
    for method, path, status in (
        ("HEAD", "/healthz", 200),
        ("GET", "/healthz?", 200),
        ("POST", "/healthz", 405),
        ("GET", "/healthz?x", 400),
        ("GET", "/healthz/", 404),
    ):
        assert site.client.request(method, path).status_code == status
    headers = site.client.get("/healthz", headers={"x-request-id": "probe"}).headers
    assert (headers["x-request-id"], headers["cache-control"]) == ("probe", "no-store")
    assert not [name for name in headers if name.startswith("x-envoy")]
