"""A record of the event loop's stalls, for the benchmarks: kept when SEAMLESS_STALL_LOG names a file for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

STALL_LOG: Final = "SEAMLESS_STALL_LOG"
_TICK_S: Final = 0.01
_NOTED_FROM_S: Final = 0.02


async def record_stalls(file: Path) -> None:
    """Appends a line for each stall, for ever: "<late_s> <computed_s>".

    A task that sleeps woke so much too late; for so much of that time the loop's own thread computed. For the rest
    it waited for the interpreter's lock, or for a processor.
    """
    with file.open("a", encoding="ascii", buffering=1) as log:
        while True:
            due, computed_before_s = time.monotonic() + _TICK_S, time.thread_time()
            await asyncio.sleep(_TICK_S)
            late_s = time.monotonic() - due
            if late_s >= _NOTED_FROM_S:
                log.write(f"{late_s:.3f} {time.thread_time() - computed_before_s:.3f}\n")
