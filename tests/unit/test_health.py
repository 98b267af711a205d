"""The health statuses while the store fails and recovers and the server stops."""

from typing import Any, cast

import pytest
from grpc_health.v1 import health_pb2

from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.rpc.health import HealthServicer, StoreHealth
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.anyio

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAME = "a.service"


class DownStore(MemoryStore):
    """A store that doesn't answer."""

    async def ping(self) -> None:
        raise StoreUnavailable


async def status_of(servicer: HealthServicer, name: str) -> int:
    answer = await servicer.Check(health_pb2.HealthCheckRequest(service=name), cast("Any", None))
    return cast("int", answer.status)


@pytest.mark.parametrize(("store", "status"), [(MemoryStore(), SERVING), (DownStore(), NOT_SERVING)])
async def test_the_first_check_of_the_store_comes_before_the_start(store: MemoryStore, status: int) -> None:
    servicer = HealthServicer()
    health = StoreHealth(servicer, NAME, store)
    await health.start_checks()
    assert await status_of(servicer, NAME) == status
    assert await status_of(servicer, "") == SERVING
    await health.stop_checks()


async def test_a_server_that_stops_stays_not_serving() -> None:
    servicer = HealthServicer()
    servicer.set(NAME, serving=True)
    servicer.set_not_serving()
    servicer.set(NAME, serving=True)  # the store recovers while the last calls are answered
    assert [await status_of(servicer, name) for name in ("", NAME)] == [NOT_SERVING] * 2
