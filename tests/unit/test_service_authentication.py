"""Services and their tokens: what finds them, how long it is remembered, and how often the store is read."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from killrvideo_grpc.domain.errors import ServiceError, StoreUnavailable
from killrvideo_grpc.domain.services import Grant, Services, remove_service
from killrvideo_grpc.security.service_tokens import new_service_token, service_digest
from killrvideo_grpc.service.service_authentication import MAX_AGE, MAX_WAITING, READ_INTERVAL, ServiceAuthenticator
from tests.support.memory_store import MemoryStore
from tests.support.services import a_name, added
from tests.support.stores import undisturbed

pytestmark = pytest.mark.anyio


class Store(MemoryStore):
    """A store that counts its reads, and fails them while `error` is set. `on_read` is awaited in each."""

    on_read: Callable[[], Awaitable[object]]

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.error: Exception | None = None
        self.on_read = undisturbed

    async def read_services(self) -> Services:
        self.reads += 1
        await self.on_read()
        services = await super().read_services()
        if self.error:
            raise self.error
        return services


class Bench:
    """An authenticator on such a store, with a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.store = Store()
        self.time = 1000.0
        self.services = ServiceAuthenticator(self.store, service_digest, lambda: self.time)

    async def outcome(self, token: str) -> str:
        """Return the name of the service, or of the error."""
        try:
            return (await self.services.authenticate(token)).service.name
        except ServiceError as error:
            return type(error).__name__


@pytest.fixture
def bench() -> Bench:
    return Bench()


def name_of(token: str) -> str:
    return token.split("_")[1]


async def test_a_service_is_known_by_its_token(bench: Bench) -> None:
    token = await added(bench.store, Grant.CHECK_TOKENS)
    found = await bench.services.authenticate(token)
    assert (found.service.name, found.actor) == (name_of(token), f"service:{name_of(token)}")
    assert found.service.grants == {Grant.CHECK_TOKENS}
    for other in (token[:-1], token + "0", token.upper(), f"{token} ", token.replace(name_of(token), "other")):
        bench.time += READ_INTERVAL
        assert await bench.outcome(other) == "TokenInvalid"


@pytest.mark.parametrize("text", ["", "kvs_", "kvs_a_", "kvs_a_" + "0" * 63, "kvs_A_" + "0" * 64, "kvs_a_" + "g" * 64])
async def test_what_cannot_be_a_token_costs_no_read(bench: Bench, text: str) -> None:
    assert await bench.outcome(text) == "TokenInvalid"
    assert bench.store.reads == 0


async def test_a_known_service_costs_one_read_in_a_while(bench: Bench) -> None:
    token = await added(bench.store)
    for _ in range(100):
        assert await bench.outcome(token) == name_of(token)
    assert bench.store.reads == 1
    bench.time += MAX_AGE + 0.1
    await asyncio.gather(*(bench.outcome(token) for _ in range(100)))
    assert bench.store.reads == 2


async def test_a_removed_service_is_soon_refused(bench: Bench) -> None:
    token = await added(bench.store)
    await bench.outcome(token)
    await bench.store.change_services(remove_service(name_of(token)))
    bench.time += MAX_AGE + 0.1
    assert await bench.outcome(token) == "TokenInvalid"
    assert MAX_AGE <= 10


async def test_a_new_service_works_at_once(bench: Bench) -> None:
    await bench.outcome(await added(bench.store))
    bench.time += READ_INTERVAL
    later = await added(bench.store)
    assert await bench.outcome(later) == name_of(later)


async def test_a_new_service_waits_for_the_next_read_while_others_guess(bench: Bench) -> None:
    """It was added after the guess, whose read was the last one allowed for a second."""
    assert await bench.outcome(new_service_token("guess")) == "TokenInvalid"
    bench.time += READ_INTERVAL / 2
    token = await added(bench.store)
    waiting = asyncio.ensure_future(bench.outcome(token))
    await until(lambda: not waiting.done())
    bench.time += READ_INTERVAL / 2
    assert await waiting == name_of(token)
    assert bench.store.reads == 2


async def test_unknown_tokens_cost_at_most_one_read_a_second(bench: Bench) -> None:
    guesses = [bench.outcome(new_service_token("guess")) for _ in range(3 * MAX_WAITING)]
    assert Counter(await asyncio.gather(*guesses))["TokenInvalid"] >= MAX_WAITING
    assert bench.store.reads == 1
    bench.time += 0.5
    waiting = [asyncio.ensure_future(bench.outcome(new_service_token("guess"))) for _ in range(3 * MAX_WAITING)]
    await until(lambda: sum(guess.done() for guess in waiting) == 2 * MAX_WAITING)  # refused without waiting
    for _ in range(50):
        await asyncio.sleep(0)
    assert not all(guess.done() for guess in waiting)
    assert bench.store.reads == 1
    bench.time += READ_INTERVAL
    outcomes = Counter([await guess for guess in waiting])
    assert outcomes == {"TokenInvalid": MAX_WAITING, "Overloaded": 2 * MAX_WAITING}
    assert bench.store.reads == 2


async def test_guesses_do_not_delay_a_known_service(bench: Bench) -> None:
    token = await added(bench.store)
    await bench.outcome(token)
    guess = asyncio.ensure_future(bench.outcome(new_service_token("guess")))
    await asyncio.sleep(0)
    assert await bench.outcome(token) == name_of(token)
    bench.time += READ_INTERVAL
    assert await guess == "TokenInvalid"


async def test_a_failed_read_is_the_stores_failure_and_tried_again_after_a_second(bench: Bench) -> None:
    token = await added(bench.store)
    bench.store.error = StoreUnavailable()
    outcomes = await asyncio.gather(*(bench.outcome(token) for _ in range(5)))
    assert (set(outcomes), bench.store.reads) == ({"StoreUnavailable"}, 1)
    assert (await bench.outcome(token), bench.store.reads) == ("StoreUnavailable", 1)
    bench.store.error = None
    bench.time += READ_INTERVAL
    assert await bench.outcome(token) == name_of(token)


async def test_a_caller_that_leaves_ends_no_other_callers_read(bench: Bench) -> None:
    token = await added(bench.store)
    leaving = asyncio.ensure_future(bench.outcome(token))
    staying = asyncio.ensure_future(bench.outcome(token))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == name_of(token)


async def test_a_look_up_ends_no_wait_for_the_shared_read(bench: Bench) -> None:
    token = await added(bench.store)
    await bench.outcome(token)
    gates: list[asyncio.Event] = []

    async def wait() -> None:
        gates.append(asyncio.Event())
        await gates[-1].wait()

    bench.store.on_read = wait
    bench.time += MAX_AGE
    guess = asyncio.ensure_future(bench.outcome(new_service_token("guess")))
    await until(lambda: len(gates) == 1)
    bench.time += 0.1
    calls = [asyncio.ensure_future(bench.outcome(token))]
    await until(lambda: len(gates) == 2)
    gates[0].set()
    assert await guess == "TokenInvalid"
    bench.time += 2 * MAX_AGE
    calls.append(asyncio.ensure_future(bench.outcome(token)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(gates) == 2
    gates[1].set()
    assert await asyncio.gather(*calls) == [name_of(token)] * 2


async def test_reads_carry_no_callers_request_id(bench: Bench) -> None:
    contexts = []

    async def note() -> None:
        contexts.append(get_contextvars())

    bench.store.on_read = note
    with bound_contextvars(request_id="first"):
        assert await bench.outcome(new_service_token("guess")) == "TokenInvalid"
        bench.time += READ_INTERVAL
        assert await bench.outcome(new_service_token("guess")) == "TokenInvalid"
    assert contexts == [{}, {}]


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 # the condition is the code under test
            await asyncio.sleep(0)


def test_names_in_tokens_are_whole() -> None:
    name = a_name()
    assert name_of(new_service_token(name)) == name
    assert service_digest(new_service_token("a-b")) is not None
    assert len({new_service_token(name) for _ in range(100)}) == 100
