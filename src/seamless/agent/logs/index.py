"""The index beside each log: what of the log counts, and where in the spool it came from.

A record of fixed size follows each piece that was appended to the log. The last valid record is the
truth: bytes of the log beyond it are of a write that was cut off by the agent's death.
"""

from __future__ import annotations

import contextlib
import struct
import time
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from enum import IntEnum
from operator import attrgetter
from pathlib import Path
from typing import Final

from seamless.agent.logs.packed import Readable, open_readable
from seamless.agent.logs.redaction import Position

_FIELDS: Final = struct.Struct("<QQQQIHH")
_CHECKSUM: Final = struct.Struct("<I")
RECORD_SIZE: Final = _FIELDS.size + _CHECKSUM.size


class Kind(IntEnum):
    """What the piece before the record is."""

    OUTPUT = 0  # of the stage
    LINE = 1  # of the agent
    TOTAL = 2  # the agent's line that says how much the cap dropped


@dataclass(frozen=True, slots=True)
class Record:
    """The state of a log after one piece was appended.

    Attempt 0 is the state of a log that has no record.
    """

    size: int = 0  # of the log
    position: Position = field(default_factory=Position)  # in the spool of this attempt
    dropped: int = 0  # bytes of this attempt's output that the cap kept out of the log
    time_ns: int = 0  # never before the record before it
    attempt: int = 0
    kind: Kind = Kind.LINE

    def next(self, kind: Kind, *, grown: int = 0, position: Position | None = None, dropped: int = 0) -> Record:
        """The record after this one: `grown` bytes more in the log, `dropped` more kept out, at this moment."""
        return replace(
            self,
            size=self.size + grown,
            position=position or self.position,
            dropped=self.dropped + dropped,
            time_ns=max(time.time_ns(), self.time_ns),
            kind=kind,
        )

    def pack(self) -> bytes:
        fields = _FIELDS.pack(
            self.size,
            self.position.offset,
            self.dropped,
            self.time_ns,
            self.position.masked,
            self.attempt,
            self.kind,
        )
        return fields + _CHECKSUM.pack(zlib.crc32(fields))

    @classmethod
    def unpack(cls, data: bytes) -> Record | None:
        """None for what `pack` did not write."""
        if len(data) != RECORD_SIZE:
            return None
        fields = data[: _FIELDS.size]
        if zlib.crc32(fields) != _CHECKSUM.unpack_from(data, _FIELDS.size)[0]:
            return None
        size, offset, dropped, time_ns, masked, attempt, kind = _FIELDS.unpack(fields)
        return cls(size, Position(offset, masked), dropped, time_ns, attempt, Kind(kind))


class IndexReader:
    """Reads an index, also while it is written. Without a file it is empty. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file: Readable | None = None
        with contextlib.suppress(FileNotFoundError):
            self._file = open_readable(path)
        self._count = 0 if self._file is None else self._file.size // RECORD_SIZE

    def __enter__(self) -> IndexReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.__exit__()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Record:
        if self._file is None or not 0 <= number < self._count:
            raise IndexError(number)
        return Record.unpack(self._file.read(number * RECORD_SIZE, RECORD_SIZE)) or Record()

    def last(self, log_size: int) -> tuple[int, Record]:
        """The newest record that is whole and that the log's bytes bear out, and how many there are up to it."""
        for count in range(self._count, 0, -1):
            record = self[count - 1]
            if record.attempt and record.size <= log_size:
                return count, record
        return 0, Record()

    def first_after(self, offset: int) -> int:
        """The number of the first record that covers bytes beyond `offset` of the log."""
        return bisect_right(self, offset, key=attrgetter("size"))

    def first_since(self, time_ns: int) -> int:
        """The number of the first record of that time or later."""
        return bisect_left(self, time_ns, key=attrgetter("time_ns"))

    def before_attempt(self, attempt: int) -> Record:
        """The state of the log when that attempt began."""
        number = bisect_left(self, attempt, key=attrgetter("attempt"))
        return self[number - 1] if number else Record()
