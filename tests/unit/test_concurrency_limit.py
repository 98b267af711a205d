"""How many requests a Data API bears at once, found from how long they take."""

from collections.abc import Callable

import pytest

from killrvideo_grpc.stores.data_api.concurrency_limit import MAX, MAX_WAITING, MIN, ConcurrencyLimit

Seconds = Callable[[int], float]  # that a request takes beside others, itself included


def far(_: int) -> float:
    """It is 20 ms away, and answers any number at once."""
    return 0.02


def up_to(bearable: int) -> Seconds:
    """It answers so many at once, and others after these."""
    return lambda under_way: 0.005 * max(1.0, under_way / bearable)


def answer(limit: ConcurrencyLimit, seconds: Seconds, count: int = 500, *, waiting: int = 1) -> list[int]:
    """Answer a lone request, then so many with as many under way as allowed. Return the limit after each of these."""
    limit.update(seconds(1), 0)
    limits = []
    for _ in range(count):
        limit.update(seconds(limit.requests), waiting)
        limits.append(limit.requests)
    return limits


def test_it_grows_while_that_makes_nothing_slower() -> None:
    assert answer(ConcurrencyLimit(), far)[-1] == MAX


@pytest.mark.parametrize("waiting", [0, MAX_WAITING + 1])
def test_it_stays_low_while_nothing_waits_or_so_much_that_sharing_is_cheaper(waiting: int) -> None:
    assert set(answer(ConcurrencyLimit(), far, waiting=waiting)) == {MIN}


@pytest.mark.parametrize("bearable", [1, 2, 4])
def test_it_stays_near_what_is_borne(bearable: int) -> None:
    limits = answer(ConcurrencyLimit(), up_to(bearable))[-100:]
    assert set(limits) <= set(range(MIN, bearable + 3))
    assert max(limits) >= bearable


def test_it_grows_far_away_although_requests_share_cores() -> None:
    def loaded(under_way: int) -> float:
        return 0.02 + 0.0004 * under_way

    assert max(answer(ConcurrencyLimit(), loaded)[-100:]) >= 10


def test_it_falls_when_less_is_borne_than_before() -> None:
    limit = ConcurrencyLimit()
    answer(limit, up_to(MAX))
    assert limit.requests == MAX
    answer(limit, up_to(1))
    assert limit.requests <= MIN + 1


def test_one_slow_answer_changes_little() -> None:
    limit = ConcurrencyLimit()
    answer(limit, far)
    limit.update(1.0, 1)
    assert min(answer(limit, far, MAX)) >= MAX - 1
