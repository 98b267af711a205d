"""Password hashes: what bcrypt alone gets wrong, what checks cost, and who waits."""

import asyncio

import bcrypt
import pytest

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.security.passwords import MAX_WAITING, BcryptHasher
from tests.support.hashing import CountingBcrypt, CountingHasher

pytestmark = pytest.mark.anyio


@pytest.fixture
def hasher() -> BcryptHasher:
    return CountingHasher(4)


@pytest.fixture
def counting() -> CountingHasher:
    return CountingHasher(6)


async def test_a_hash_verifies_its_password_only(hasher: BcryptHasher) -> None:
    hashed = await hasher.hash("correct horse")
    assert hashed.startswith("$2b$04$")
    assert await hasher.verify("correct horse", hashed)
    assert not await hasher.verify("Correct horse", hashed)


@pytest.mark.parametrize("family", ["$2a$", "$2b$", "$2y$"])
async def test_bcrypt_hashes_of_versions_2a_2b_and_2y_are_accepted(hasher: BcryptHasher, family: str) -> None:
    left = family + (await hasher.hash("correct horse"))[4:]
    assert await hasher.verify("correct horse", left)
    assert not await hasher.verify("wrong", left)


@pytest.mark.parametrize(
    "password_hash",
    [None, "", "garbage", "$2b$04$short", "$2x$04$" + "a" * 53, "$1$aa$bb", "$2b$99$" + "a" * 53, "$2b$04$" + "a" * 53],
)
async def test_no_password_matches_a_missing_or_invalid_hash(hasher: BcryptHasher, password_hash: str | None) -> None:
    assert not await hasher.verify("correct horse", password_hash)


async def test_bytes_beyond_the_72nd_are_not_ignored(hasher: BcryptHasher) -> None:
    limit = "ü" * 36
    assert await hasher.verify(limit, await hasher.hash(limit))
    assert not await hasher.verify(limit + "x", await hasher.hash(limit))


async def test_a_password_repeated_after_nul_does_not_match(hasher: BcryptHasher) -> None:
    hashed = await hasher.hash("aaaaaaaa")
    assert bcrypt.checkpw(b"aaaaaaaa\0aaaaaaaa", hashed.encode())  # bcrypt itself can't tell them apart
    assert not await hasher.verify("aaaaaaaa\0aaaaaaaa", hashed)


async def test_a_hash_of_another_cost_needs_a_rehash(hasher: BcryptHasher, counting: CountingHasher) -> None:
    assert counting.needs_rehash(await hasher.hash("correct horse"))
    assert not hasher.needs_rehash(await hasher.hash("correct horse"))


async def test_refusing_costs_the_same_with_a_cheaper_hash(hasher: BcryptHasher, counting: CountingHasher) -> None:
    """The check takes 2^4 steps, plus 2^4 and 2^5: together the 2^6 of the configured cost."""
    cheap = await hasher.hash("correct horse")
    assert not await counting.verify("wrong", cheap)
    assert sum(2**cost for cost in counting.costs) == 2**6
    counting.costs.clear()
    assert not await counting.verify("wrong", None)
    assert counting.costs == [6]


class HeldPool(CountingBcrypt):
    """A pool that waits until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__(4)
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        self.started.set()
        await self.go_on.wait()
        return await super().run(method, *arguments)


async def test_nothing_is_hashed_for_a_caller_who_left_the_queue() -> None:
    pool = HeldPool()
    hasher = BcryptHasher(4, pool, max_concurrent=1)
    callers = [asyncio.create_task(hasher.hash("correct horse")) for _ in range(100)]
    await pool.started.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    pool.go_on.set()
    assert await hasher.hash("correct horse")
    assert len(pool.costs) == 1


async def test_too_many_callers_are_refused() -> None:
    pool = HeldPool()
    hasher = BcryptHasher(4, pool, max_concurrent=1)
    callers = [asyncio.create_task(hasher.hash("correct horse")) for _ in range(MAX_WAITING + 3)]
    await asyncio.sleep(0)  # let all begin
    assert [type(caller.exception()) for caller in callers if caller.done()] == [Overloaded, Overloaded]
    for caller in callers[1:]:
        caller.cancel()
    pool.go_on.set()
    assert await callers[0]
    assert await hasher.hash("correct horse")  # there is room again
