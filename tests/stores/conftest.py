from collections.abc import Iterator
from pathlib import Path

import pytest

from killrvideo_grpc.domain.ports import UserStore
from tests.stores.harness import STORES, Harness


@pytest.fixture(params=list(STORES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    with STORES[request.param](tmp_path) as harness:
        yield harness


@pytest.fixture
def store(harness: Harness) -> Iterator[UserStore]:
    store = harness.open()
    yield store
    store.close()
