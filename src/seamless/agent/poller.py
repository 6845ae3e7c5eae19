"""Asks the repositories for new heads: `git ls-remote`, an interval per service, jitter, back-off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Final

from seamless.agent.operations import Operations
from seamless.agent.resources import Resources
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters
from seamless.errors import HostError, SeamlessError, StorageError
from seamless.model import Actor, Trigger

_POLLER: Final = Actor("poller")
_BACK_OFF_MAX_S: Final = 900.0
_log = logging.getLogger(__name__)


def next_delay_s(interval_s: float, failures: int, chance: float) -> float:
    """Until the next question: the interval, doubled for each failure in a row up to 15 min, ±10 %."""
    delay_s = min(interval_s * 2.0 ** min(failures, 20), max(_BACK_OFF_MAX_S, interval_s))
    return delay_s * (0.9 + 0.2 * chance)


class Poller:
    """One task a service. A head that was never seen before is noted, and starts no run: adding a
    service deploys nothing by itself."""

    def __init__(self, resources: Resources, operations: Operations) -> None:
        self._resources = resources
        self._operations = operations
        self._tasks: dict[str, tuple[Parameters, asyncio.Task[None]]] = {}

    def configure(self) -> None:
        """Starts and stops tasks so that they fit the configuration in force."""
        config = self._resources.config()
        wanted = dict(config.services) if config.agent.poll else {}
        for service, (parameters, task) in list(self._tasks.items()):
            if wanted.get(service) != parameters:
                task.cancel()
                del self._tasks[service]
        for service, parameters in wanted.items():
            if service not in self._tasks:
                task = asyncio.create_task(self._poll(service, parameters), name=f"poller of {service}")
                self._tasks[service] = (parameters, task)

    async def stop(self) -> None:
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, service: str, parameters: Parameters) -> None:
        failures = 0
        while True:
            try:
                await self._look(service, parameters)
                failures = 0
                await self._resources.store.heads.set_problem(service, None)
            except SeamlessError as error:
                failures += not isinstance(error, HostError)  # the repository is none the worse for our trouble
                await self._tell(service, error.message)
            except Exception:
                failures += 1
                _log.exception("polling %s failed", service)
            await asyncio.sleep(next_delay_s(parameters.poll_interval, failures, random.random()))

    async def _tell(self, service: str, problem: str) -> None:
        with contextlib.suppress(StorageError):
            if await self._resources.store.heads.set_problem(service, problem):
                _log.warning("%s: %s", service, problem)

    async def _look(self, service: str, parameters: Parameters) -> None:
        ref = f"refs/heads/{parameters.branch}"
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        commit = (await self._resources.forge.heads(repository, [ref])).get(ref)
        if commit is None:
            raise SeamlessError(f"{parameters.repo} has no branch {parameters.branch}")
        seen = await self._resources.store.heads.get(service, ref)
        if seen is not None and seen[0] == commit:
            return
        if seen is None or Trigger.MAIN not in parameters.triggers:
            await self._resources.store.heads.see(service, ref, commit)
            return
        # A new configuration may end this task, but not between storing a run and driving it.
        await asyncio.shield(self._operations.start_for_push(_POLLER, service, ref, commit))
