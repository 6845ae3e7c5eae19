"""What one thing is that was kept long enough, and what the present rules are."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

_PRESSED: Final = timedelta(days=7)  # the oldest that is kept while the host is short of room


@dataclass(frozen=True, slots=True)
class Collected:
    """One thing that went, or would, or should have."""

    kind: str  # "image", "log", "run", "checkout", "mirror", "cache", "workspace"; "packed": a log takes less room now
    name: str
    why: str
    size: int | None  # bytes of the disk; None: not known before, or without asking the engine
    kept: str | None = None  # why it could not be removed


@dataclass(frozen=True, slots=True)
class Garbage:
    """What may go. `remove` decides that once more, and may raise SeamlessError or OSError."""

    kind: str
    name: str
    why: str
    size: int | None
    remove: Callable[[], Awaitable[bool]]  # False: it is needed again

    def told(self, kept: str | None = None) -> Collected:
        return Collected(self.kind, self.name, self.why, self.size, kept)


@dataclass(frozen=True, slots=True)
class Turn:
    """One look at everything."""

    now: datetime
    pressed: bool  # the host is short of room
    asked: bool  # by somebody, and not by the clock

    def before(self, age_s: float) -> datetime:
        """What is older than this was kept for `age_s`, or for as long as the shortage of room allows."""
        age = timedelta(seconds=age_s)
        return self.now - (min(age, _PRESSED) if self.pressed else age)


def size_of(folder: Path) -> int:
    """Bytes that its files take on the disk; what cannot be read is not counted. Blocking."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
    return total
