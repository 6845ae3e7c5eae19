"""Work for stages that come next, done while the one before them still runs.

It is a comfort: what goes wrong in it is left to the attempt, which does the same again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from seamless.errors import SeamlessError
from seamless.model import StageName

_log = logging.getLogger(__name__)


class Ahead:
    def __init__(self) -> None:
        self._tasks: dict[tuple[str, StageName], asyncio.Task[None]] = {}

    def begin(self, run: str, stage: StageName, work: Coroutine[None, None, None]) -> None:
        """Starts `work` for a stage of a run; once for each."""
        if (run, stage) in self._tasks:
            work.close()
            return
        self._tasks[run, stage] = asyncio.create_task(_bear(work, run, stage), name=f"ahead of {run} {stage}")

    async def settle(self, run: str, stage: StageName | None = None) -> None:
        """Waits until nothing is being made for the stage, or for any of the run. Forgets it."""
        for key in [key for key in self._tasks if key[0] == run and stage in (None, key[1])]:
            await asyncio.wait({self._tasks[key]})
            self._tasks.pop(key, None)


async def _bear(work: Coroutine[None, None, None], run: str, stage: StageName) -> None:
    try:
        await work
    except (SeamlessError, OSError) as error:
        _log.info("nothing was made ahead for %s of %s: %s", stage, run, error)
