"""Looking for a regular expression in a log, whatever its size: in bounded memory, and in linear time.

The expression (`seamless.patterns`) lets go of the interpreter's lock while it matches, so that this, in a thread, does
not hold up the event loop. What is searched is what people see: colours and
other sequences are no part of the text.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from seamless.agent.logs.packed import Readable, open_readable
from seamless.loglines import BLOCK, piece_at
from seamless.logtext import Sanitiser

_CHUNK: Final = 1024 * 1024
_BACKWARD_CHUNK: Final = 256 * 1024
_SHOWN: Final = 8 * 1024  # bytes of a line that an answer has
_ANSWER: Final = 512 * 1024  # bytes of lines in one answer
_SGR: Final = re.compile(rb"\x1b\[[0-9:;]{0,64}m")
_SHOWN_BYTES: Final = bytes({*range(0x20, 0x100), 0x09, 0x0A} - {0x7F})


@dataclass(frozen=True, slots=True)
class Match:
    """A line in which the expression was found."""

    offset: int
    text: bytes  # the line as stored, without its end; the first part of a long one


@dataclass(slots=True)
class Found:
    """`reached`: how far was looked. Forward, lines that begin before it; backward, those that begin at it or later."""

    reached: int
    matches: list[Match] = field(default_factory=list)
    size: int = 0  # bytes in the lines

    def add(self, match: Match) -> None:
        self.matches.append(match)
        self.size += len(match.text)


def search(
    path: Path, size: int, expression: Any, start: int, *, backwards: bool, limit: int, budget_s: float
) -> Found:
    """Lines of the log's first `size` bytes that begin at `start` or later (backwards: before it), nearest first.

    Gives up when `budget_s` is over; `reached` then says where to go on. Blocking.
    """
    until = time.monotonic() + budget_s
    with open_readable(path) as log:
        found = Found(min(start, size))
        while (found.reached > 0) if backwards else (found.reached < size):
            first, end = _chunk_before(log, found.reached) if backwards else _chunk_from(log, found.reached, size)
            data = log.read(first, end - first)
            hits = [hit for hit in _hits(expression, data, first) if (hit.offset < start) == backwards]
            for hit in reversed(hits) if backwards else hits:
                if len(found.matches) == limit or found.size >= _ANSWER:
                    found.reached = found.matches[-1].offset + (0 if backwards else 1)
                    return found
                found.add(hit)
            found.reached = first if backwards else end
            if time.monotonic() >= until:
                return found
    return found


def _chunk_from(log: Readable, start: int, size: int) -> tuple[int, int]:
    """Whole lines, from the one that holds `start` on; of a line longer than a chunk, whole pieces."""
    end = min(start + _CHUNK, size)
    if end < size:
        newline = log.read(start, end - start).rfind(b"\n")
        end = start + newline + 1 if newline >= 0 else end - end % BLOCK
    return _line_start(log, start), end


def _chunk_before(log: Readable, end: int) -> tuple[int, int]:
    return _line_start(log, max(0, end - _BACKWARD_CHUNK)), end


def _line_start(log: Readable, offset: int) -> int:
    """Where the line begins that holds `offset`; of a line longer than a chunk, some piece before it."""
    low = max(0, offset - _CHUNK)
    low -= low % BLOCK
    newline = log.read(low, offset - low).rfind(b"\n")
    return low + BLOCK if newline < 0 and low else low + newline + 1


def _hits(expression: Any, data: bytes, base: int) -> Iterator[Match]:
    """The lines of `data`, which lies at `base`, in which there is something to be found; each once."""
    seen = _seen(data) if data.translate(None, _SHOWN_BYTES) else data
    same = len(seen) == len(data)
    starts = [] if same else _starts(data)
    seen_starts = [] if same else _starts(seen)
    at = 0
    while at <= len(seen) and (match := expression.search(seen, at)) is not None:
        begin = match.start()
        if same:
            line = data.rfind(b"\n", 0, begin) + 1
            line = piece_at(base + line, base + begin) - base
        else:
            line = starts[min(bisect_right(seen_starts, begin), len(starts)) - 1]
        end = data.find(b"\n", line)
        if line < len(data):
            yield Match(base + line, data[line : end if end >= 0 else len(data)][:_SHOWN])
        after = seen.find(b"\n", max(begin, match.end()))
        if after < 0:
            return
        at = after + 1


def _seen(data: bytes) -> bytes:
    """What people see of whole lines."""
    seen = _SGR.sub(b"", data.replace(b"\r\n", b"\n"))
    if seen.translate(None, _SHOWN_BYTES):
        sanitiser = Sanitiser(colour=False)
        seen = (sanitiser.feed(seen) + sanitiser.finish()).encode()
    return seen


def _starts(data: bytes) -> list[int]:
    starts, at = [0], data.find(b"\n")
    while at >= 0:
        starts.append(at + 1)
        at = data.find(b"\n", at + 1)
    return starts


def line_at(path: Path, offset: int) -> tuple[int, int]:
    """The number (from 1) and the start of the line that holds `offset`. Blocking; reads all before it."""
    lines = 0
    start = 0
    with open_readable(path) as log:
        for base in range(0, offset, _CHUNK):
            data = log.read(base, min(_CHUNK, offset - base))
            if count := data.count(b"\n"):
                lines += count
                start = base + data.rfind(b"\n") + 1
    return lines + 1, start


def start_of_line(path: Path, size: int, number: int) -> tuple[int, int]:
    """The number and the start of line `number` (from 1), or of the last one when there are not so many. Blocking."""
    missing = number - 1  # newlines before it that have not been seen yet
    with open_readable(path) as log:
        for base in range(0, size if missing > 0 else 0, _CHUNK):
            data = log.read(base, min(_CHUNK, size - base))
            if (count := data.count(b"\n")) < missing:
                missing -= count
                continue
            at = -1
            for _ in range(missing):
                at = data.find(b"\n", at + 1)
            if base + at + 1 < size:
                return number, base + at + 1
            break
    return (1, 0) if missing <= 0 else line_at(path, size - 1)
