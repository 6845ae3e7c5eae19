"""A stage's log as lines, in both directions from any offset, fetched by blocks as they are needed and never whole.

A bounded number of blocks is held.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from seamless.loglines import BLOCK, starts_after

if TYPE_CHECKING:
    from seamless.client import Client

T = TypeVar("T")
Ask = Callable[[Callable[["Client"], T]], Awaitable[T]]

_BLOCKS: Final = 32  # 2 MiB of a log


@dataclass(frozen=True, slots=True)
class Line:
    """One line as stored, without its end; `next` is where the one after it begins."""

    offset: int
    next: int
    data: bytes


class LineSource(Protocol):
    """Lines in order of their offsets."""

    async def forward(self, start: int, count: int) -> list[Line]:
        """At most `count` lines that begin at `start` or later; fewer only at the end."""

    async def backward(self, before: int, count: int) -> list[Line]:
        """At most `count` lines that begin before `before`, in the log's order; fewer only at the beginning."""

    def is_last(self, line: Line) -> bool:
        """Whether no other one comes after it, as far as is known."""


@dataclass(slots=True)
class _Block:
    data: bytes
    starts: list[int]


class Lines:
    def __init__(self, ask: Ask[bytes], run: str, stage: str) -> None:
        self._ask = ask
        self._run = run
        self._stage = stage
        self.size = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()

    def grow(self, size: int) -> None:
        self.size = max(self.size, size)

    def is_last(self, line: Line) -> bool:
        return line.next >= self.size

    async def _block(self, base: int) -> _Block:
        known = self._blocks.get(base)
        wanted = min(BLOCK, self.size - base)
        if known is None or len(known.data) < wanted:
            run, stage = self._run, self._stage
            data = await self._ask(lambda agent: b"".join(agent.log(run, stage, offset=base, limit=BLOCK)))
            known = self._blocks[base] = _Block(data, starts_after(data, base))
            while len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(base)
        return known

    async def start_of(self, offset: int) -> int:
        """Where the line begins that holds `offset`."""
        offset = max(0, min(offset, self.size))
        base = offset - offset % BLOCK
        while True:
            starts = (await self._block(base)).starts if base < self.size else []
            if at := bisect_right(starts, offset):
                return starts[at - 1]
            if base == 0:
                return 0
            base -= BLOCK

    async def forward(self, start: int, count: int) -> list[Line]:
        found: list[Line] = []
        while len(found) < count and start < self.size:
            end = await self._next(start)
            found.append(Line(start, end, await self._read(start, end)))
            start = end
        return found

    async def _next(self, start: int) -> int:
        base = start - start % BLOCK
        while base < self.size:
            starts = (await self._block(base)).starts
            at = bisect_right(starts, start)
            if at < len(starts):
                return starts[at]
            base += BLOCK
        return self.size

    async def _read(self, start: int, end: int) -> bytes:
        base = start - start % BLOCK
        data = b""
        while base < end:
            block = (await self._block(base)).data
            data += block[max(0, start - base) : end - base]
            base += BLOCK
        return data[:-1] if data.endswith(b"\n") else data

    async def backward(self, before: int, count: int) -> list[Line]:
        starts: list[int] = []
        before = min(before, self.size)
        base = before - 1 - (before - 1) % BLOCK
        while before > 0 and len(starts) < count:
            block = await self._block(base)
            earlier = block.starts[: bisect_left(block.starts, before)]
            starts = earlier[-(count - len(starts)) :] + starts
            if base == 0:
                if len(starts) < count:
                    starts.insert(0, 0)
                break
            base -= BLOCK
        ends = [*starts[1:], await self._next(starts[-1])] if starts else []
        return [Line(start, end, await self._read(start, end)) for start, end in zip(starts, ends, strict=True)]
