"""The service on a fake Data API, one for each module of tests."""

from collections.abc import Iterator

import pytest

from tests.rpc.astra.service import Service, service_on_fake
from tests.rpc.conftest import Account
from tests.support import fake_data_api


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_on_fake(tmp_path_factory.mktemp("astra")) as service:
        yield service


@pytest.fixture
def service(started: Service) -> Iterator[Service]:
    yield started
    started.recover()


@pytest.fixture
def server(service: Service) -> fake_data_api.FakeDataApi:
    return service.data_api


@pytest.fixture
def account(service: Service) -> Account:
    return service.new_account()
