"""What of an installation is on the engine, found by its label."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from seamless.executors import LABEL_INSTALLATION, LABEL_ROLE, Found
from seamless.executors.engine import Engine
from seamless.executors.inspection import joined_namespace

ROLE_NETWORK: Final = "network"
ROLE_HELPER: Final = "helper"

Entry = Mapping[str, Any]


class Inventory:
    """Lists containers, volumes and networks that carry the installation's label."""

    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._label = f"{LABEL_INSTALLATION}={installation}"

    async def find(self) -> Sequence[Found]:
        """See `Executor.find`."""
        api = self._engine.api
        containers, volumes, networks = await asyncio.gather(
            self._containers(),
            self._engine.ask(api.volumes, filters=self._mine),
            self._engine.ask(api.networks, filters=self._mine),
        )
        found = [
            Found("container", entry["Names"][0].lstrip("/"), entry["Labels"], running=entry["State"] == "running")
            for entry in containers
            if not _is_the_executors_own(entry)
        ]
        found += [Found("volume", entry["Name"], entry["Labels"]) for entry in volumes["Volumes"] or []]
        found += [Found("network", entry["Name"], entry["Labels"]) for entry in networks]
        return found

    async def leftovers(self) -> Mapping[str, bool]:
        """The executor's own containers that nothing uses: all helpers, and namespaces that nothing joined. Id ->
        whether it is a namespace that is still there.

        Right only before this executor has made any.
        """
        containers = await self._containers()
        joined = {joined_namespace(entry["HostConfig"]["NetworkMode"]) for entry in containers}
        return {
            entry["Id"]: entry["State"] == "running" and entry["Labels"][LABEL_ROLE] == ROLE_NETWORK
            for entry in containers
            if _is_the_executors_own(entry) and entry["Id"] not in joined
        }

    async def network_ids(self, name: str) -> Sequence[str]:
        """Names of networks are not unique."""
        networks = await self._engine.ask(self._engine.api.networks, names=[name], filters=self._mine)
        return [network["Id"] for network in networks if network["Name"] == name]

    @property
    def _mine(self) -> dict[str, list[str]]:
        """New each time: docker-py adds to the filters that it is given."""
        return {"label": [self._label]}

    async def _containers(self) -> Sequence[Entry]:
        containers: Sequence[Entry] = await self._engine.ask(self._engine.api.containers, all=True, filters=self._mine)
        return containers


def _is_the_executors_own(container: Entry) -> bool:
    return container["Labels"].get(LABEL_ROLE) in (ROLE_NETWORK, ROLE_HELPER)
