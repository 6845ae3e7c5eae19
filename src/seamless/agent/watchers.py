"""A watcher for each repository of the configuration in force, and who is told of what webhooks say."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from seamless.agent.arrivals import Arrivals
from seamless.agent.resources import Resources
from seamless.agent.watcher import Watched, Watcher
from seamless.config import Parameters


class Watchers:
    """`attended` is called with the deliveries that were looked into."""

    def __init__(
        self, resources: Resources, arrivals: Arrivals, attended: Callable[[Sequence[int]], Awaitable[None]]
    ) -> None:
        self._resources = resources
        self._arrivals = arrivals
        self._attended = attended
        self._watching: dict[Watched, tuple[Watcher, asyncio.Task[None]]] = {}

    async def configure(self) -> None:
        """Starts and stops watchers so that they fit the configuration in force. What a watcher that is stopped was
        told is to be told again."""
        config = self._resources.config()
        wanted: defaultdict[Watched, dict[str, Parameters]] = defaultdict(dict)
        if config.agent.poll:
            for service, parameters in config.services.items():
                wanted[Watched(parameters.repo, parameters.git)][service] = parameters
        await self._resources.store.repositories.keep_only({watched.url for watched in wanted})
        for watched, (watcher, task) in list(self._watching.items()):
            if wanted.get(watched) != watcher.services:
                task.cancel()
                del self._watching[watched]
        for watched, services in wanted.items():
            if watched not in self._watching:
                watcher = self._watcher(watched, services)
                task = asyncio.create_task(watcher.run(), name=f"watcher of {watched.url}")
                self._watching[watched] = (watcher, task)

    def _watcher(self, watched: Watched, services: dict[str, Parameters]) -> Watcher:
        shortest_s = min(parameters.poll_interval for parameters in services.values())
        return Watcher(
            watched,
            services,
            self._resources,
            self._arrivals,
            interval_s=lambda is_told: shortest_s,
            attended=self._attended,
        )

    async def stop(self) -> None:
        tasks = [task for _, task in self._watching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
