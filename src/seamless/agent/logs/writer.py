"""Appending to one log: a piece of it, then its index record, so that a half-written piece can be told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from seamless.agent.logs.index import RECORD_SIZE, IndexReader, Kind, Record
from seamless.agent.logs.packed import packed
from seamless.agent.logs.redaction import Position
from seamless.crashpoints import crash_point
from seamless.errors import ProgrammingError

_MODE: Final = 0o600


class LogWriter:
    """Appends to one log; one writer and one thread at a time. Opening it removes a piece that was cut off half-way.

    After an OSError the log is as it was before the call, which can be repeated.
    """

    def __init__(self, path: Path, attempt: int, cap: int) -> None:
        if not path.exists() and packed(path).exists():
            raise ProgrammingError(f"{path.stem}: its run is over, and its log packed")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(path, flags, _MODE)
        try:
            self._index = os.open(path.with_suffix(".idx"), flags, _MODE)
        except OSError:
            os.close(self._log)
            raise
        try:
            self._recover(path, attempt, cap)
        except BaseException:
            self.close()
            raise

    def _recover(self, path: Path, attempt: int, cap: int) -> None:
        with IndexReader(path.with_suffix(".idx")) as index:
            self._records, self._last = index.last(os.fstat(self._log).st_size)
            begun = min(index.before_attempt(attempt).size, self._last.size)
        if self._last.attempt > attempt:
            raise ProgrammingError(f"{path.stem}: attempt {attempt} after attempt {self._last.attempt}")
        self._cut_back()
        self._end_of_output = begun + cap
        self._at_line_start = self._last.size == 0 or os.pread(self._log, 1, self._last.size - 1) == b"\n"
        if self._last.attempt < attempt:
            self._last = replace(self._last, attempt=attempt, position=Position(), dropped=0)
            if attempt > 1:
                self.append_line(f"attempt {attempt}")

    @property
    def position(self) -> Position:
        """How far the spool of this attempt is in the log."""
        return self._last.position

    def append(self, data: bytes, position: Position) -> None:
        """Output of the stage, which brings the log to `position` of its spool. Raises OSError."""
        if not data and position == self._last.position:
            return
        kept = data[: max(self._end_of_output - self._last.size, 0)]
        dropped = len(data) - len(kept)
        if dropped and not self._last.dropped:
            kept += self.line("the log is full; what follows is not kept", after=kept)
        self._commit(kept, self._last.next(Kind.OUTPUT, grown=len(kept), position=position, dropped=dropped))

    def append_line(self, text: str | bytes) -> None:
        """A line of the agent's own, which no cap keeps out. Raises OSError."""
        line = self.line(text)
        self._commit(line, self._last.next(Kind.LINE, grown=len(line)))

    def append_total(self) -> None:
        """Once after the end of an attempt's output: says what the cap kept out, if anything. Raises OSError."""
        if self._last.dropped and self._last.kind is not Kind.TOTAL:
            line = self.line(f"{self._last.dropped:,} more bytes of output were not kept")
            self._commit(line, self._last.next(Kind.TOTAL, grown=len(line)))

    def line(self, text: str | bytes, *, after: bytes = b"") -> bytes:
        """The bytes of a line of the agent's own, which always begins a line, and says whose it is."""
        if isinstance(text, str):
            text = text.encode(errors="replace")
        at_line_start = after.endswith(b"\n") if after else self._at_line_start
        return (b"" if at_line_start else b"\n") + b"".join(b"seamless: %b\n" % line for line in text.splitlines())

    def close(self) -> None:
        os.close(self._log)
        os.close(self._index)

    def _commit(self, data: bytes, record: Record) -> None:
        try:
            _write(self._log, data)
            crash_point("log.chunk:after_write")
            _write(self._index, record.pack())
        except OSError:
            self._cut_back()
            raise
        self._last = record
        self._records += 1
        if data:
            self._at_line_start = data.endswith(b"\n")
        crash_point("log.chunk:after_index")

    def _cut_back(self) -> None:
        os.ftruncate(self._index, self._records * RECORD_SIZE)
        os.ftruncate(self._log, self._last.size)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
