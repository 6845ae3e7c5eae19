"""Spent time that survives restarts: see `model.Clock`."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from seamless.model import Clock


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def spent_s(clock: Clock | None) -> float:
    """Seconds of running so far. What ran before a reboot ended with it."""
    if clock is None:
        return 0.0
    if clock.running_since is None or clock.boot != boot_id():
        return clock.used_s
    return clock.used_s + time.monotonic() - clock.running_since


def started(clock: Clock | None) -> Clock:
    """The clock, running. One that ran already, in this boot, runs on."""
    if clock is not None and clock.running_since is not None and clock.boot == boot_id():
        return clock
    return Clock(boot_id(), spent_s(clock), time.monotonic())


def stopped(clock: Clock | None) -> Clock:
    return Clock(boot_id(), spent_s(clock))


def age_in_words(seconds: float) -> str:
    """`3 minutes`, `1 day`: one unit, rounded down."""
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}" if count == 1 else f"{count} {word}s"
    return "a moment"
