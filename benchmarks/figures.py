"""A measured figure, how it is judged, and the table of all of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Judged(StrEnum):
    """What is compared with the limit."""

    RATIO = "ratio"  # of the medians
    DIFFERENCE = "difference"  # of the medians
    MEDIAN = "median"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class Figure:
    """`ours` and `beside` are samples in `unit`, taken in turns. `limit` is in `unit` too, but for a ratio."""

    name: str
    unit: str
    ours: Sequence[float]
    judged: Judged
    limit: float | None
    beside: Sequence[float] = ()
    beside_what: str = ""
    at_least: bool = False  # the limit is a floor, and more is better

    @property
    def value(self) -> float:
        """What is judged."""
        ours = statistics.median(self.ours)
        match self.judged:
            case Judged.RATIO:
                return ours / statistics.median(self.beside)
            case Judged.DIFFERENCE:
                return ours - statistics.median(self.beside)
            case Judged.WORST:
                return min(self.ours) if self.at_least else max(self.ours)
            case _:
                return ours

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> tuple[str, ...]:
        """The cells of its line in the table."""
        beside = f"{_spread(self.beside, self.unit)}: {self.beside_what}" if self.beside else ""
        value = f"{self.value:.2f} x" if self.judged is Judged.RATIO else f"{_number(self.value)} {self.unit}"
        match self.judged:
            case Judged.DIFFERENCE:
                value = f"+{value}" if self.value >= 0 else value
            case Judged.WORST:
                value = f"{value} at worst"
        asked = ""
        if self.limit is not None:
            limit = f"{self.limit:g} x" if self.judged is Judged.RATIO else f"{_number(self.limit)} {self.unit}"
            asked = f"{'≥' if self.at_least else '≤'} {limit}"
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return self.name, _spread(self.ours, self.unit), beside, value, asked, met

    def to_json(self) -> dict[str, Any]:
        """With all samples."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": [round(sample, 4) for sample in self.ours],
            "beside": [round(sample, 4) for sample in self.beside],
            "beside_what": self.beside_what,
            "judged": self.judged.value,
            "value": round(self.value, 4),
            "limit": self.limit,
            "at_least": self.at_least,
            "met": self.met,
        }


HEADINGS = ("", "Seamless: median (range)", "beside it", "judged", "asked", "met")


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table whose columns are aligned for a terminal as well."""
    rows = [HEADINGS, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _spread(samples: Sequence[float], unit: str) -> str:
    if len(samples) == 1:
        return f"{_number(samples[0])} {unit}"
    middle = statistics.median(samples)
    return f"{_number(middle)} ({_number(min(samples))} to {_number(max(samples))}) {unit}"


def _number(value: float) -> str:
    """Three digits or more."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
