"""uvicorn as a part of the agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn


class QuietServer(uvicorn.Server):
    """Leaves the signals to the agent, and sleeps until `stop`, where uvicorn's own looks ten times a second.

    Its answers have no Date header, which is what uvicorn would wake up for.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        config.date_header = False
        super().__init__(config)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """`serve` returns when what is under way has ended, or its time is over."""
        self.should_exit = True
        self._stopped.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)  # makes the default headers
        await self._stopped.wait()
