"""The monitor behind the figure "longest stall of the event loop"."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seamless.agent.stalls import record_stalls


def stalls_of(file: Path, block: Callable[[], None]) -> list[tuple[float, float]]:
    """What is recorded of a loop that `block` holds up once: (late, computed), in seconds."""

    async def main() -> None:
        monitor = asyncio.create_task(record_stalls(file))
        await asyncio.sleep(0.03)
        block()
        await asyncio.sleep(0.03)
        monitor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await monitor

    asyncio.run(main())
    return [(float(late), float(computed)) for late, computed in map(str.split, file.read_text().splitlines())]


def compute() -> None:
    begun = time.thread_time()
    while time.thread_time() - begun < 0.2:
        pass


@pytest.mark.parametrize(("block", "computing"), [(lambda: time.sleep(0.2), False), (compute, True)])
def test_a_stall_is_recorded_with_what_the_loop_did_in_it(
    tmp_path: Path, block: Callable[[], None], computing: bool
) -> None:
    stalls = stalls_of(tmp_path / "stalls", block)  # a busy machine adds some of its own
    assert any(late_s >= 0.18 for late_s, _ in stalls)
    assert any(late_s >= 0.18 and computed_s >= 0.18 for late_s, computed_s in stalls) == computing
