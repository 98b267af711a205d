"""The results of a part: its figures and targets, as rows of a table and as a line of JSON."""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from tests.bench.load import GENERATOR, cores
from tests.bench.rounds import Round, medians


@dataclass(frozen=True)
class Figure:
    """A number, its target (None: it is only reported), and the sides that it compares."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    sides: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}{self.unit}"
        return "reported" if self.at_most is None else f"≤ {self.at_most:g}{self.unit}"

    @property
    def met(self) -> bool | None:
        """Returns whether the target is met, or None if there is no target."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


def ratio(
    name: str,
    rounds: Sequence[Round],
    side: str,
    other: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """Return the median over the rounds of one side ÷ the other. Noise affects both sides of a round alike."""
    value = statistics.median(found[side] / found[other] for found in rounds)
    return Figure(name, value, at_least, at_most, sides=(side, other))


def difference(name: str, rounds: Sequence[Round], side: str, other: str, *, at_most: float) -> Figure:
    """Return the median over the rounds of one side - the other, in ms."""
    value = statistics.median(found[side] - found[other] for found in rounds)
    return Figure(name, value, at_most=at_most, unit=" ms", sides=(side, other))


@dataclass(frozen=True)
class Result:
    """The figures of a part, the main one first, and their source data. `unit` is the unit of the sides."""

    figures: list[Figure]
    rounds: list[Round]
    unit: str = "/s"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def sides(self) -> Round:
        """The median of each side over the rounds."""
        return medians(self.rounds)


def as_json(part: str, result: Result) -> str:
    """Return the part as one line of JSON."""
    first = result.figures[0]
    verdicts = [figure.met for figure in result.figures if figure.met is not None]
    line = {
        "part": part,
        "ratio": _rounded(first.value),
        "target": first.target,
        "met": all(verdicts) if verdicts else None,
        "figures": {
            figure.name: {"value": _rounded(figure.value), "target": figure.target, "met": figure.met}
            for figure in result.figures
        },
        "unit": result.unit.strip(),
        "sides": _rounded(result.sides),
        "rounds": _rounded(result.rounds),
        "machine": {
            "cores": cores(),
            "python": sys.version.split()[0],
            "grpcio": version("grpcio"),
            "load_generator": GENERATOR,
        },
        **_rounded(result.details),
    }
    return json.dumps(line, ensure_ascii=False)


def as_table(results: Mapping[str, Result]) -> str:
    """Return a Markdown table with one row per figure, as docs/performance.md shows it."""
    rows = [("part", "figure", "value", "target", "", "sides (medians)")]
    for part, result in results.items():
        for figure in result.figures:
            verdict = {True: "met", False: "missed", None: ""}[figure.met]
            value = f"{figure.value:.3g}{figure.unit}"
            rows.append((part, figure.name, value, figure.target, verdict, _sides(result, figure)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "|".join("-" * (width + 2) for width in widths)
    head, *lines = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in lines)])


def _sides(result: Result, figure: Figure) -> str:
    return ", ".join(f"{side}: {_short(result.sides[side])}{result.unit}" for side in figure.sides)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_rounded(member) for member in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
