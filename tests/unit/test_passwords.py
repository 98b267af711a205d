import math

import bcrypt
import pytest

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded
from killrvideo_grpc.security.passwords import BcryptHasher
from tests.support.hashing import CountingHasher

hasher = BcryptHasher(4, at_once=1)


def test_a_hash_verifies_its_password_only() -> None:
    hashed = hasher.hash("correct horse")
    assert hashed.startswith("$2b$04$")
    assert hasher.verify("correct horse", hashed)
    assert not hasher.verify("Correct horse", hashed)


@pytest.mark.parametrize("family", ["$2a$", "$2b$", "$2y$"])
def test_the_families_of_hashes_that_others_left(family: str) -> None:
    left = family + hasher.hash("correct horse")[4:]
    assert hasher.verify("correct horse", left)
    assert not hasher.verify("wrong", left)


@pytest.mark.parametrize(
    "password_hash",
    [None, "", "garbage", "$2b$04$short", "$2x$04$" + "a" * 53, "$1$aa$bb", "$2b$99$" + "a" * 53, "$2b$04$" + "a" * 53],
)
def test_nothing_verifies_against_what_is_no_hash(password_hash: str | None) -> None:
    assert not hasher.verify("correct horse", password_hash)


def test_bytes_past_72_count() -> None:
    limit = "ü" * 36
    assert hasher.verify(limit, hasher.hash(limit))
    assert not hasher.verify(limit + "x", hasher.hash(limit))


def test_nul_does_not_repeat_a_password() -> None:
    hashed = hasher.hash("aaaaaaaa")
    assert bcrypt.checkpw(b"aaaaaaaa\0aaaaaaaa", hashed.encode())  # bcrypt itself takes one for the other
    assert not hasher.verify("aaaaaaaa\0aaaaaaaa", hashed)


def test_another_cost_asks_for_a_new_hash() -> None:
    assert BcryptHasher(5, at_once=1).needs_rehash(hasher.hash("correct horse"))
    assert not hasher.needs_rehash(hasher.hash("correct horse"))


def test_a_caller_whose_time_is_up_is_not_hashed_for() -> None:
    hashed = hasher.hash("correct horse")
    with deadline.within(0):
        with pytest.raises(DeadlineExceeded):
            hasher.verify("correct horse", hashed)
        with pytest.raises(DeadlineExceeded):
            hasher.hash("correct horse")


def test_refusing_a_cheaper_hash_costs_what_refusing_any_does() -> None:
    """2^4 steps to check, then 2^4 and 2^5 more: together the 2^6 of the configured cost."""
    dear = CountingHasher(6)
    assert not dear.verify("wrong", hasher.hash("correct horse"))
    assert sum(2**cost for cost in dear.costs) == 2**6
    dear.costs.clear()
    assert not dear.verify("wrong", None)
    assert dear.costs == [6]


def test_the_default_cost() -> None:
    assert BcryptHasher(12, at_once=1).hash("correct horse").startswith("$2b$12$")


def test_a_caller_who_leaves_while_he_waits_for_his_turn() -> None:
    asked = iter([False, True])
    with deadline.of_call(math.inf, lambda: next(asked)), pytest.raises(DeadlineExceeded):
        hasher.hash("correct horse")
    assert hasher.hash("correct horse")  # and his turn is given back
