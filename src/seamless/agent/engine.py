"""Keeps a driver for every run that has not ended, and cleans up after those that have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from seamless.agent.cleaning import Cleaner
from seamless.agent.driver import Driver
from seamless.agent.gate import Gatekeeper
from seamless.agent.resources import Resources
from seamless.agent.slots import Slots
from seamless.agent.stage_runner import StageRunner
from seamless.errors import HostError
from seamless.model import Run, StageName

_DRIVER_RETRY_S: Final = 5.0
_log = logging.getLogger(__name__)


class Engine:
    def __init__(self, resources: Resources, gatekeeper: Gatekeeper) -> None:
        self._resources = resources
        self._gatekeeper = gatekeeper
        self._slots = Slots(resources.config().agent.max_parallel_runs)
        self._runner = StageRunner(resources)
        self._cleaner = Cleaner(resources)
        self._drivers: dict[str, Driver] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Adopts what an earlier agent left: runs go on, ended ones are cleaned up, strays are removed."""
        active = await self._resources.store.runs.active()
        # Before anything runs: a folder that was just made and is not recorded yet would look like a stray.
        uncleaned = await self._resources.store.runs.uncleaned()
        await self._resources.workspaces.sweep({run.id for run in active}, {run.id for run in uncleaned})
        for run in active:
            self.submit(run)
            self.retire(run.id)
            self.clear_tests(run.id)
        self._spawn(self._cleaner.recover(), "recovery cleaning")

    async def stop(self) -> None:
        """Stops driving. Containers run on; the next agent adopts them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, run: Run) -> None:
        """Drives a run to its end. The run is stored already."""
        driver = Driver(run.id, self._resources, self._slots, self._runner, self._gatekeeper)
        self._drivers[run.id] = driver
        self._spawn(self._drive(run, driver), f"driver of {run.id}")

    def wake(self, run: str) -> None:
        """A run's row was changed by somebody else than its driver."""
        driver = self._drivers.get(run)
        if driver is not None:
            driver.wake()

    def waits(self, run: str) -> Mapping[StageName, str]:
        """What keeps the run's next stages from starting, in words."""
        driver = self._drivers.get(run)
        return {} if driver is None else driver.waits

    def tidy(self, run: str) -> None:
        """A run may wait for days: what its ended stages left on the engine goes now. Its folders stay."""
        self._spawn(self._cleaner.remove_objects(run), f"tidying of {run}")

    def clear_tests(self, run: str) -> None:
        """The run's integration test may have passed: what it ran in goes, while the run goes on."""
        self._spawn(self._cleaner.clear_tests(run), f"end of the tests of {run}")

    def retire(self, run: str) -> None:
        """A deployment of the run may have completed: what it replaced ends."""
        self._spawn(self._cleaner.retire(run), f"end of what {run} replaced")

    def wake_service(self, service: str) -> None:
        """Something changed that the service's runs may wait for: a deployment ended, an approval was voided."""
        for run, driver in self._drivers.items():
            if run.rpartition("-")[0] == service:
                driver.wake()

    def wake_all(self) -> None:
        """Something changed that any run may wait for: there is room again."""
        for driver in self._drivers.values():
            driver.wake()

    def configure(self) -> None:
        """A new configuration is in force."""
        self._slots.resize(self._resources.config().agent.max_parallel_runs)

    async def _drive(self, run: Run, driver: Driver) -> None:
        while True:
            try:
                ended = await driver.drive()
                break
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a full disk, a bug: the run is in the store and goes on from there
                why, trace = _explained(error)
                _log.error("%s waits %g s and goes on then: %s", run.id, _DRIVER_RETRY_S, why, exc_info=trace)
                await asyncio.sleep(_DRIVER_RETRY_S)
                driver = Driver(run.id, self._resources, self._slots, self._runner, self._gatekeeper)
                self._drivers[run.id] = driver
        del self._drivers[run.id]
        await self._cleaner.clean(ended)

    def _spawn(self, work: asyncio._CoroutineLike[None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            why, trace = _explained(error)
            _log.error("%s failed: %s", task.get_name(), why, exc_info=trace)


def _explained(error: BaseException) -> tuple[str, BaseException | None]:
    """What the agent's log tells of it, and its trace; what the host is short of needs none."""
    if isinstance(error, HostError):
        return error.message, None
    return f"{type(error).__name__}: {error}", error
