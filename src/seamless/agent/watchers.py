"""A watcher for each repository of the configuration in force, and who is told of what webhooks say."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from seamless.agent.arrivals import Arrivals
from seamless.agent.resources import Resources
from seamless.agent.store import Delivery
from seamless.agent.watcher import Hint, Watched, Watcher
from seamless.config import Parameters


class Watchers:
    """`attended` is called with the deliveries that were looked into; set it before any is told."""

    attended: Callable[[Sequence[int]], Awaitable[None]]

    def __init__(self, resources: Resources, arrivals: Arrivals) -> None:
        self._resources = resources
        self._arrivals = arrivals
        self._watching: dict[Watched, tuple[Watcher, asyncio.Task[None]]] = {}

    async def configure(self) -> None:
        """Starts and stops watchers so that they fit the configuration in force. What a watcher that is stopped was
        told is to be told again."""
        config = self._resources.config()
        wanted: defaultdict[Watched, dict[str, Parameters]] = defaultdict(dict)
        if config.agent.poll or config.agent.webhooks is not None:
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

        def interval_s(is_told: bool) -> float | None:
            agent = self._resources.config().agent
            if not agent.poll:
                return None
            return shortest_s if agent.webhooks is None or not is_told else agent.webhooks.reconcile_interval

        async def attended(deliveries: Sequence[int]) -> None:
            await self.attended(deliveries)

        return Watcher(watched, services, self._resources, self._arrivals, interval_s=interval_s, attended=attended)

    async def tell(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Hands deliveries to the watchers of their repositories; returns those that are nobody's.

        A repository is known by its number, whatever it is called now; by its name only until that is known.
        """
        known = await self._resources.store.repositories.all() if deliveries else {}
        nobodys = []
        for delivery in deliveries:
            told = delivery.told
            hint = Hint(delivery.id, told.ref, told.pull_request, told.commit)
            is_ours = False
            for watched, (watcher, _) in self._watching.items():
                if watched.url not in known and told.repository is not None and _is_called(watched.url, told.name):
                    await self._resources.store.repositories.identify(watched.url, told.repository)
                    known[watched.url] = told.repository
                if known.get(watched.url) == told.repository:
                    watcher.tell(hint)
                    is_ours = True
            if not is_ours:
                nobodys.append(delivery.id)
        return nobodys

    async def stop(self) -> None:
        tasks = [task for _, task in self._watching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_called(url: str, name: str | None) -> bool:
    """Whether the URL ends in this owner and name. Deliveries are signed, so the host need not be compared."""
    path = url.removesuffix("/").removesuffix(".git").replace(":", "/").split("/")
    return name is not None and "/".join(path[-2:]).casefold() == name.casefold()
