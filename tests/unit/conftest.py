"""The use cases over fakes, and an account in their store."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # pytest-xdist's main process imports this module, but runs no tests
    from killrvideo_grpc.domain.account import Account
    from killrvideo_grpc.service.sessions import Login
    from tests.support.use_cases import UseCases


@pytest.fixture
async def use_cases() -> "UseCases":
    from tests.support.use_cases import UseCases

    return UseCases()


@pytest.fixture
async def account(use_cases: "UseCases") -> "Account":
    """A registered account."""
    return await use_cases.register()


@pytest.fixture
async def login(use_cases: "UseCases", account: "Account") -> "Login":
    """The first login to `account`."""
    return await use_cases.log_in(account)
