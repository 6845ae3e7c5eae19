"""Short tasks that need root on files below the data directory, since the agent need not be root.

Each runs in a container of its own, labelled as a helper: an agent that was killed meanwhile removes
what is left of it when it starts again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from seamless.errors import StageError
from seamless.executors import Mount
from seamless.executors.container_config import chore_body
from seamless.executors.engine import Engine


class Chores:
    """Runs commands in `image`, the helper image, or in another one."""

    def __init__(self, engine: Engine, *, image: str, prefix: str, labels: Mapping[str, str]) -> None:
        self._engine = engine
        self._image = image
        self._prefix = prefix
        self._labels = labels

    async def run(
        self, command: Sequence[str], mounts: Sequence[Mount], *, image: str | None = None, user: str | None = None
    ) -> None:
        """Returns when the command has succeeded; raises StageError with what it wrote when it has not."""
        engine, api = self._engine, self._engine.api
        body = chore_body(image or self._image, command, mounts, user=user, labels=self._labels)
        name = f"{self._prefix}helper-{secrets.token_hex(4)}"
        await engine.call(api.create_container_from_config, body, name)
        try:
            await engine.call(api.start, name)
            await engine.exchange("POST", f"/containers/{name}/wait")
            state = (await engine.ask(api.inspect_container, name))["State"]
            if state["Running"] or state["ExitCode"] != 0:
                said = (await engine.ask(api.logs, name, tail=20)).decode(errors="replace").strip()
                raise StageError(f"{command[0]} in a helper container failed: {said or state['ExitCode']}")
        finally:
            await engine.ask(api.remove_container, name, force=True, v=True)
