"""The lines of a log in which a regular expression is found: the agent searches, a bounded number of them is held."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from seamless.tui.logsearch import Search
from seamless.tui.logsource import Ask, Line, Lines

if TYPE_CHECKING:
    from seamless.wire_logs import LogSearchJSON

_AT_ONCE: Final = 100  # matches that are asked for at once
_KNOWN: Final = 2000  # matches that are remembered


class Matching:
    """The lines of a log in which something is found. What was found stays known, as far as it lies in one stretch."""

    def __init__(self, ask: Ask[LogSearchJSON], lines: Lines, run: str, stage: str, search: Search) -> None:
        self._ask = ask
        self._lines = lines
        self._where = run, stage
        self.search = search
        self._found: list[Line] = []  # all there are between `_low` and `_high`
        self._low = self._high = 0

    async def forward(self, start: int, count: int) -> list[Line]:
        self._begin_at(start)
        while True:
            first = bisect_left(self._found, start, key=_offset)
            if len(self._found) - first >= count or self._high >= self._lines.size:
                return self._found[first : first + count]
            answer = await self._search(self._high, count, backwards=False)
            self._found += _lines_of(answer)
            self._high = answer["reached"]
            if len(self._found) > _KNOWN:
                self._found = self._found[-_KNOWN:]
                self._low = self._found[0].offset

    async def backward(self, before: int, count: int) -> list[Line]:
        self._begin_at(before)
        while True:
            last = bisect_left(self._found, before, key=_offset)
            if last >= count or self._low <= 0:
                return self._found[max(0, last - count) : last]
            answer = await self._search(self._low, count, backwards=True)
            self._found = _lines_of(answer)[::-1] + self._found
            self._low = answer["reached"]
            if len(self._found) > _KNOWN:
                self._high = self._found[_KNOWN].offset
                self._found = self._found[:_KNOWN]

    def _begin_at(self, offset: int) -> None:
        if not self._low <= offset <= self._high:
            self._found = []
            self._low = self._high = offset

    async def _search(self, offset: int, count: int, *, backwards: bool) -> LogSearchJSON:
        limit = max(_AT_ONCE, count)
        return await self.search.matches(self._ask, *self._where, offset, backwards=backwards, limit=limit)


def _offset(line: Line) -> int:
    return line.offset


def _lines_of(answer: LogSearchJSON) -> list[Line]:
    return [Line(one["offset"], one["offset"] + 1, one["text"].encode()) for one in answer["matches"]]
