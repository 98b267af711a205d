"""A store on a Data API of the tests' own, which can be made to fail."""

from collections.abc import Iterator

import pytest

from killrvideo_grpc.stores.astra import AstraStore
from killrvideo_grpc.stores.data_api import Connection, DataApi
from tests.support import data_api
from tests.support.keyspaces import prepared_stand_in


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[data_api.DataApi, Connection]]:
    with prepared_stand_in() as prepared:
        yield prepared


@pytest.fixture
def server(prepared: tuple[data_api.DataApi, Connection]) -> Iterator[data_api.DataApi]:
    server, _ = prepared
    server.forget_requests()
    yield server
    server.clear_faults()


@pytest.fixture
def store(prepared: tuple[data_api.DataApi, Connection], server: data_api.DataApi) -> Iterator[AstraStore]:
    store = AstraStore(DataApi(prepared[1]))
    yield store
    store.close()
