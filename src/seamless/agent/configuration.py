"""The configuration in force, reloaded when its file changes. A broken file changes nothing and is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from watchfiles import awatch

from seamless.agent.store import Store
from seamless.config import Config, load_config
from seamless.errors import ConfigError
from seamless.model import Actor

_log = logging.getLogger(__name__)


class LiveConfig:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._config = load_config(file)
        self.error: str | None = None
        self._reading = asyncio.Lock()

    def __call__(self) -> Config:
        return self._config

    async def watch(self, store: Store, changed: Callable[[], Awaitable[None]]) -> None:
        """Follows the file for ever; calls `changed` after a new configuration came into force."""
        # The folder, because editors replace the file.
        async for changes in awatch(self._file.parent, recursive=False, debounce=200, step=50):
            if any(Path(path) == self._file for _, path in changes):
                with contextlib.suppress(ConfigError):
                    await self.reload(store, changed)

    async def reload(self, store: Store, changed: Callable[[], Awaitable[None]], actor: Actor | None = None) -> None:
        """Reads the file again. Raises ConfigError for one that cannot be used: the one before stays in force."""
        async with self._reading:
            await self._reload(store, changed, actor)

    async def _reload(self, store: Store, changed: Callable[[], Awaitable[None]], actor: Actor | None) -> None:
        name, origin = (None, None) if actor is None else (actor.name, actor.origin)
        try:
            config = await asyncio.to_thread(load_config, self._file)
            self._check_fixed(config)
        except ConfigError as error:
            self.error = error.message
            _log.error("the new configuration is not in force:\n%s", error.message)
            await store.events.add("config", "refuse", reason=error.message, actor=name, origin=origin)
            raise
        self.error = None
        if config != self._config:
            self._config = config
            _log.info("the new configuration is in force")
            await store.events.add("config", "reload", actor=name, origin=origin)
            await changed()

    def _check_fixed(self, config: Config) -> None:
        before, after = _fixed(self._config), _fixed(config)
        for key in before:
            if before[key] != after[key]:
                raise ConfigError(
                    f"{self._file.name}: {key}: a change needs a restart of the agent (seamless agent stop, then start)"
                )


def _fixed(config: Config) -> dict[str, object]:
    """What an agent keeps as it was when it started."""
    agent, webhooks = config.agent, config.agent.webhooks
    return {
        "agent.webhooks.listen": None if webhooks is None else webhooks.listen,
        "agent.data_dir": agent.data_dir,
        "agent.socket": agent.socket,
        "agent.helper_image": agent.helper_image,
        "agent.log_cap": agent.log_cap,
        "github.api_url": config.github.api_url,
    }
