"""An attacker tries to guess a password and to lock the owner out, on two processes and every store.

The processes trust their peer, the test, so it can choose the source of each call with x-forwarded-for.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count, cycle, islice, takewhile

import pytest
from killrvideo.user.v1.user_service_pb2 import (
    ChangePasswordRequest,
    DeleteMeRequest,
    GetMeRequest,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    RefreshTokenRequest,
)
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.e2e.callers import bearer, outcome, processes
from tests.e2e.conftest import KEYSPACES
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration

# Lower than the defaults, except for the first, so that an attack takes little time.
PER_ACCOUNT_AND_SOURCE, PER_SOURCE, PER_ACCOUNT, REGISTRATIONS = 20, 50, 40, 30
LIMITS = {
    "MAX_FAILURES_PER_SOURCE": str(PER_SOURCE),
    "MAX_FAILURES_PER_ACCOUNT": str(PER_ACCOUNT),
    "MAX_REGISTRATIONS_PER_SOURCE": str(REGISTRATIONS),
}
AT_ONCE = len(os.sched_getaffinity(0))  # how many guesses a process checks at once
HOME = "198.51.100.7"
# Counters may share a slot, so a limit may be reached a little early, but never late.
EARLY = 3
BLOCKED, WRONG = "TOO_MANY_ATTEMPTS", "INVALID_CREDENTIALS"

# For what the limits do alike on every store: test_store_contract_attempts.py checks that each one counts.
on_sqlite = pytest.mark.parametrize("stubs", ["sqlite"], indirect=True)

_numbers = iter(range(1, 1 << 24))


def a_source() -> str:
    """Return an address from which nobody has called yet."""
    number = next(_numbers)
    return f"203.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def from_(source: str) -> tuple[tuple[str, str], ...]:
    return (("x-forwarded-for", f"192.0.2.99, {source}"),)  # the trusted proxy appended the last address


@pytest.fixture(scope="module", params=["sqlite", *KEYSPACES])
def stubs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[UserServiceStub]]:
    """Two processes on one database."""
    folder = tmp_path_factory.mktemp("throttling")
    with ExitStack() as stack:
        keyspace = stack.enter_context(KEYSPACES[request.param]()) if request.param in KEYSPACES else None
        changes = LIMITS | {"TRUSTED_PROXIES": "127.0.0.1"}
        yield stack.enter_context(processes(folder, keyspace, 2, **changes))


class Victim:
    """Somebody with an account, who has logged in from home."""

    def __init__(self, stub: UserServiceStub) -> None:
        self.email = an_address()
        stub.Register(registration(self.email), metadata=from_(a_source()))
        self.login = log_in(stub, self.email, HOME)


@pytest.fixture
def victim(stubs: list[UserServiceStub]) -> Victim:
    return Victim(stubs[0])


def log_in(stub: UserServiceStub, email: str, source: str, password: str = PASSWORD) -> LoginResponse:
    return stub.Login(LoginRequest(email=email, password=password), metadata=from_(source), timeout=60)


def guess(stub: UserServiceStub, email: str, source: str, password: str = "wrong guess") -> str:
    return outcome(lambda: log_in(stub, email, source, password))


def guess_from_anywhere(stub: UserServiceStub, email: str) -> str:
    return guess(stub, email, a_source())


def is_reached(
    stubs: list[UserServiceStub], most: int, call: Callable[[UserServiceStub], str], refusal: str = WRONG
) -> bool:
    """Make failing calls to the processes in turn until one is blocked. Return whether the number was as expected."""
    outcomes = [call(stub) for stub in islice(cycle(stubs), most + 1)]
    failed = list(takewhile(lambda outcome: outcome != BLOCKED, outcomes))
    assert set(outcomes) == {refusal, BLOCKED}
    return most - EARLY <= len(failed) <= most


def guess_at_anybody(stub: UserServiceStub, source: str) -> str:
    return guess(stub, an_address(), source)


def test_guesses_at_a_password_from_one_source_are_limited(stubs: list[UserServiceStub], victim: Victim) -> None:
    source = a_source()
    assert is_reached(stubs, PER_ACCOUNT_AND_SOURCE, lambda stub: guess(stub, victim.email, source))
    for each in stubs:
        assert guess(each, victim.email, source) == BLOCKED
        assert guess(each, victim.email, source, PASSWORD) == BLOCKED  # even the right password is refused now
    assert guess(stubs[0], an_address(), source) == WRONG  # another account is not affected


@on_sqlite
def test_guesses_at_a_password_from_many_sources_are_limited(stubs: list[UserServiceStub], victim: Victim) -> None:
    assert is_reached(stubs, PER_ACCOUNT, lambda stub: guess(stub, victim.email, a_source()))
    for each in stubs:
        assert guess(each, victim.email, a_source()) == BLOCKED
        assert guess(each, victim.email, a_source(), PASSWORD) == BLOCKED


@on_sqlite
def test_nobody_locks_a_victim_out(stubs: list[UserServiceStub], victim: Victim) -> None:
    """An attacker with many addresses tries everything, and the victim can still log in at home."""
    stub = cycle(stubs)
    for _ in range(PER_ACCOUNT + 20):
        guess(next(stub), victim.email, a_source())
    for each in stubs:
        assert guess(each, victim.email, a_source(), PASSWORD) == BLOCKED
        login = log_in(each, victim.email, HOME)
        assert each.GetMe(GetMeRequest(), metadata=bearer(login)).email == victim.email
        refresh = RefreshTokenRequest(refresh_token=login.refresh_token)
        assert outcome(lambda: each.RefreshToken(refresh, metadata=from_(HOME))) == "OK"  # noqa: B023 # called at once
    change = ChangePasswordRequest(current_password=PASSWORD, new_password="another password")
    assert outcome(lambda: stubs[0].ChangePassword(change, metadata=(*bearer(victim.login), *from_(HOME)))) == "OK"


def test_a_burst_over_both_processes_exceeds_the_limit_only_slightly(
    stubs: list[UserServiceStub], victim: Victim
) -> None:
    source = a_source()
    with ThreadPoolExecutor(32) as pool:
        outcomes = Counter(pool.map(lambda n: guess(stubs[n % 2], victim.email, source), range(64)))
    assert outcomes.keys() == {WRONG, BLOCKED}
    assert PER_ACCOUNT_AND_SOURCE - EARLY <= outcomes[WRONG] <= PER_ACCOUNT_AND_SOURCE + 2 * AT_ONCE


@on_sqlite
def test_many_good_logins_at_once_from_one_source_all_succeed(stubs: list[UserServiceStub], victim: Victim) -> None:
    with ThreadPoolExecutor(64) as pool:
        outcomes = Counter(pool.map(lambda n: guess(stubs[n % 2], victim.email, HOME, PASSWORD), range(64)))
    assert outcomes == {"OK": 64}


@on_sqlite
def test_an_unknown_address_has_the_same_limits(stubs: list[UserServiceStub], victim: Victim) -> None:
    for email in (victim.email, an_address()):
        from_one, from_many = partial(guess, email=email, source=a_source()), partial(guess_from_anywhere, email=email)
        assert is_reached(stubs, PER_ACCOUNT_AND_SOURCE, from_one)
        assert is_reached(stubs, PER_ACCOUNT - PER_ACCOUNT_AND_SOURCE + EARLY, from_many)


@on_sqlite
def test_failures_from_one_source_are_limited(stubs: list[UserServiceStub], victim: Victim) -> None:
    """Over all addresses together. The victim can still log in from a source where they have logged in before."""
    elsewhere, home = a_source(), a_source()
    log_in(stubs[0], victim.email, home)
    for source, expected in ((elsewhere, BLOCKED), (home, "OK")):
        assert is_reached(stubs, PER_SOURCE, partial(guess_at_anybody, source=source))
        for each in stubs:
            assert guess_at_anybody(each, source) == BLOCKED
            assert guess(each, victim.email, source, PASSWORD) == expected


@on_sqlite
def test_garbage_refresh_tokens_block_nothing_else(stubs: list[UserServiceStub], victim: Victim) -> None:
    source, garbage = a_source(), RefreshTokenRequest(refresh_token="garbage")

    def refresh(each: UserServiceStub, source: str) -> str:
        return outcome(lambda: each.RefreshToken(garbage, metadata=from_(source)))

    assert is_reached(stubs, PER_SOURCE, lambda stub: refresh(stub, source), "REFRESH_TOKEN_INVALID")
    good = RefreshTokenRequest(refresh_token=victim.login.refresh_token)
    for each in stubs:
        assert refresh(each, source) == BLOCKED
        assert refresh(each, a_source()) == "REFRESH_TOKEN_INVALID"
        assert guess(each, victim.email, source, PASSWORD) == "OK"
        assert outcome(lambda: each.RefreshToken(good, metadata=from_(source))) == "OK"  # noqa: B023 # called at once


@on_sqlite
def test_guesses_at_a_password_with_a_stolen_token_are_limited(stubs: list[UserServiceStub], victim: Victim) -> None:
    source = a_source()
    metadata = (*bearer(victim.login), *from_(source))
    change = ChangePasswordRequest(current_password="wrong guess", new_password="another password")
    leave = DeleteMeRequest(password="wrong guess")

    def attempt(stub: UserServiceStub) -> str:
        if stub is stubs[0]:
            return outcome(lambda: stub.ChangePassword(change, metadata=metadata))
        return outcome(lambda: stub.DeleteMe(leave, metadata=metadata))

    assert is_reached(stubs, PER_ACCOUNT_AND_SOURCE, attempt)
    change.current_password = leave.password = PASSWORD
    for each in stubs:
        assert outcome(lambda: each.ChangePassword(change, metadata=metadata)) == BLOCKED  # noqa: B023 # at once
        assert outcome(lambda: each.DeleteMe(leave, metadata=metadata)) == BLOCKED  # noqa: B023 # at once
        assert guess(each, victim.email, source, PASSWORD) == BLOCKED


@on_sqlite
def test_a_client_stuck_with_a_dead_refresh_token_blocks_no_good_one(
    stubs: list[UserServiceStub], victim: Victim
) -> None:
    source, dead = a_source(), victim.login
    live = stubs[0].Login(LoginRequest(email=victim.email, password=PASSWORD), metadata=from_(source))
    stubs[0].Logout(LogoutRequest(), metadata=bearer(dead))

    def present(stub: UserServiceStub, token: str) -> str:
        request = RefreshTokenRequest(refresh_token=token)
        return outcome(lambda: stub.RefreshToken(request, metadata=from_(source)))

    for number in range(3 * PER_ACCOUNT_AND_SOURCE):
        assert present(stubs[number % 2], dead.refresh_token) == "REFRESH_TOKEN_INVALID"
    assert [present(stub, live.refresh_token) for stub in stubs] == ["OK", "OK"]


def test_registrations_from_one_source_are_limited(stubs: list[UserServiceStub]) -> None:
    source = a_source()

    def register(number: int) -> str:
        request = registration(an_address())
        return outcome(lambda: stubs[number % 2].Register(request, metadata=from_(source), timeout=60))

    with ThreadPoolExecutor(16) as pool:
        outcomes = Counter(pool.map(register, range(REGISTRATIONS + 10)))
    assert outcomes.keys() == {"OK", BLOCKED}
    assert REGISTRATIONS - EARLY <= outcomes["OK"] <= REGISTRATIONS
    assert outcome(lambda: stubs[0].Register(registration(an_address()), metadata=from_(a_source()))) == "OK"


@on_sqlite
def test_a_trusted_peer_that_sends_no_address_has_no_limit_per_source(stubs: list[UserServiceStub]) -> None:
    """However many logins fail. Each of them is for another address."""
    stub = cycle(stubs)
    for _ in range(PER_SOURCE + 10):
        request = LoginRequest(email=an_address(), password="wrong guess")
        assert outcome(lambda: next(stub).Login(request)) == WRONG  # noqa: B023 # called at once


@on_sqlite
def test_callers_of_one_ipv6_network_are_one_source(stubs: list[UserServiceStub], victim: Victim) -> None:
    network, numbers = f"2001:db8:{next(_numbers):x}:7", count()

    def guess_from_network(stub: UserServiceStub) -> str:
        return guess(stub, victim.email, f"{network}::{next(numbers):x}")

    assert is_reached(stubs, PER_ACCOUNT_AND_SOURCE, guess_from_network)
    assert guess(stubs[0], victim.email, f"{network}:1:2:3:4") == BLOCKED
