from collections.abc import Iterator

import pytest

from killrvideo_grpc.domain.ports import UserStore
from tests.stores.harness import STORES, Harness


@pytest.fixture(scope="session", params=list(STORES))
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    # One for all tests, because a real Data API takes seconds to make a keyspace. Each test has accounts of its own.
    with STORES[request.param](tmp_path_factory.mktemp("store")) as harness:
        yield harness


@pytest.fixture
def store(harness: Harness) -> Iterator[UserStore]:
    store = harness.open()
    yield store
    store.close()
