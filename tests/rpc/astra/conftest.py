"""The service on a fake Data API, one for each module of tests."""

from collections.abc import Iterator
from copy import copy

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


@pytest.fixture(scope="module")
def account_and_snapshot(started: Service) -> tuple[Account, fake_data_api.Snapshot]:
    """An account, and what its registration and login wrote."""
    account, snapshot = started.new_account(), started.data_api.snapshot()
    started.data_api.empty()
    return account, snapshot


@pytest.fixture
def account(service: Service, account_and_snapshot: tuple[Account, fake_data_api.Snapshot]) -> Account:
    """A registered account with a session, whose row and events are written."""
    account, snapshot = account_and_snapshot
    service.data_api.restore(snapshot)
    copied = copy(account)
    copied.service_tokens = {}
    return copied
