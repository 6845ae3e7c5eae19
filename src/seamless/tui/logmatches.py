"""The lines of a log in which a regular expression is found: the agent searches, a bounded number of them is held."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from seamless.tui.logsearch import Search, Searcher
from seamless.tui.logsource import Line, Lines

if TYPE_CHECKING:
    from seamless.wire_logs import LogSearchJSON

_AT_ONCE: Final = 100  # matches that are asked for at once
_KNOWN: Final = 2000  # matches that are remembered
_NEAR: Final = 8 << 20  # bytes that are searched to keep what is known rather than to begin anew


class Matching:
    """The lines of a log in which something is found. What was found stays known, as far as it lies in one stretch.

    As a `LineSource` it searches until it has what is wanted, or raises StoppedError. From the log's end back,
    `look_back` finds a little more each time, and `last` is what is known there.
    """

    def __init__(self, searcher: Searcher, search: Search, lines: Lines) -> None:
        self._searcher = searcher
        self._lines = lines
        self.search = search
        self._found: list[Line] = []  # all there are between `_low` and `_high`
        self._low = self._high = lines.size

    @property
    def is_complete(self) -> bool:
        """Whether the whole log was looked through, and what was found is known."""
        return self._low <= 0 and self._high >= self._lines.size

    def is_last(self, line: Line) -> bool:
        return self._found[-1:] == [line] and self._high >= self._lines.size

    async def forward(self, start: int, count: int) -> list[Line]:
        self._begin_at(start)

        def take(answer: LogSearchJSON) -> bool:
            self._add_later(answer)
            return len(self._found) - self._number(start) >= count

        if len(self._found) - self._number(start) < count and self._high < self._lines.size:
            await self._look(self._high, count, take, backwards=False)
        first = self._number(start)
        return self._found[first : first + count]

    async def backward(self, before: int, count: int) -> list[Line]:
        if before == self._lines.size:
            await self.catch_up()
        self._begin_at(before)

        def take(answer: LogSearchJSON) -> bool:
            self._add_earlier(answer)
            return self._number(before) >= count

        if self._number(before) < count and self._low > 0:
            await self._look(self._low, count, take, backwards=True)
        last = self._number(before)
        return self._found[max(0, last - count) : last]

    async def catch_up(self) -> None:
        """Know the log's end, which may have moved on."""
        end = self._lines.size
        if self._high + _NEAR < end:
            self._begin_at(end)
        elif self._high < end:

            def take(answer: LogSearchJSON) -> bool:
                self._add_later(answer)
                return self._high >= end

            await self._look(self._high, _AT_ONCE, take, backwards=False, quietly=True)

    async def look_back(self) -> None:
        """For a moment, further back than is known."""
        self._add_earlier(await self._searcher.moment(self.search, self._low, backwards=True, limit=_AT_ONCE))

    def last(self, count: int) -> list[Line]:
        """The last ones that are known, at most `count`."""
        return self._found[-count:]

    async def _look(
        self,
        start: int,
        count: int,
        take: Callable[[LogSearchJSON], bool],
        *,
        backwards: bool,
        quietly: bool = False,
    ) -> None:
        limit = max(_AT_ONCE, count)
        await self._searcher.look(self.search, start, backwards=backwards, limit=limit, take=take, quietly=quietly)

    def _number(self, offset: int) -> int:
        """Of the first line known that begins there or later."""
        return bisect_left(self._found, offset, key=_offset)

    def _begin_at(self, offset: int) -> None:
        if not self._low <= offset <= self._high:
            self._found = []
            self._low = self._high = offset

    def _add_later(self, answer: LogSearchJSON) -> None:
        self._found += _lines_of(answer)
        self._high = answer["reached"]
        if len(self._found) > _KNOWN:
            self._found = self._found[-_KNOWN:]
            self._low = self._found[0].offset

    def _add_earlier(self, answer: LogSearchJSON) -> None:
        self._found = _lines_of(answer)[::-1] + self._found
        self._low = answer["reached"]
        if len(self._found) > _KNOWN:
            self._high = self._found[_KNOWN].offset
            self._found = self._found[:_KNOWN]


def _offset(line: Line) -> int:
    return line.offset


def _lines_of(answer: LogSearchJSON) -> list[Line]:
    return [Line(one["offset"], one["offset"] + 1, one["text"].encode()) for one in answer["matches"]]
