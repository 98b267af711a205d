"""Measures the sides of a part alternately, round by round."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tests.bench.load import Load, Source, drive

T = TypeVar("T")
Round = dict[str, float]

WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Options:
    """How often and how long each side is measured. Some parts measure for a multiple of that."""

    rounds: int
    seconds: float


def in_turns(rounds: int, sides: Mapping[str, Callable[[], T]]) -> list[dict[str, T]]:
    """Measures the sides in turn, `rounds` times, in alternating order, so that noise affects all of them alike."""
    found = []
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(list(sides)))
        measured = {side: sides[side]() for side in order}
        found.append({side: measured[side] for side in sides})
    return found


def loads_in_turns(sides: Mapping[str, Sequence[Source]], options: Options) -> list[dict[str, Load]]:
    """Warms up all sides, then puts load on one after the other in each round."""
    for sources in sides.values():
        drive(sources, WARM_UP_SECONDS)
    measures = {side: partial(drive, sources, options.seconds) for side, sources in sides.items()}
    return in_turns(options.rounds, measures)


def each(found: Iterable[Mapping[str, T]], value: Callable[[T], float]) -> list[Round]:
    """Select one number from each result of each side."""
    return [{side: value(seen) for side, seen in sides.items()} for sides in found]


def medians(rounds: Sequence[Round]) -> Round:
    """Return the median of each side over the rounds."""
    return {side: statistics.median(found[side] for found in rounds) for side in rounds[0]}


def rates(loads: Iterable[Mapping[str, Load]]) -> list[Round]:
    """Return the successful responses per second."""
    return each(loads, lambda load: load.rate)


def generator_cores(loads: Iterable[Mapping[str, Load]]) -> Round:
    """Return how many cores the load generators used. A generator that uses a whole core is the bottleneck."""
    return medians(each(loads, lambda load: load.generator_cores))
