"""Between the listener and the watchers: deliveries are stored, and told on until somebody has looked into them.

A delivery is only a hint. So one that is lost costs time, and one that is replayed costs a look; neither starts a run
that the repository as it is now does not ask for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from seamless.agent.room import Room
from seamless.agent.store import Delivery, NewDelivery, Store
from seamless.agent.watchers import Watchers
from seamless.config import Config, Webhooks
from seamless.errors import UnavailableError
from seamless.forges.github.events import Told
from seamless.secretrefs import resolve_all

_PENDING_MAX: Final = 20_000  # deliveries that nobody has looked into: an hour of a very busy organisation
_SECRETS_KEPT_S: Final = 10.0
_KEPT_DAYS: Final = 7  # GitHub redelivers for three
_PRUNE_EVERY_S: Final = 3600.0
_IN_THREAD_FROM: Final = 256 * 1024  # bytes
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Intake:
    def __init__(self, store: Store, watchers: Watchers, config: Callable[[], Config], room: Room) -> None:
        self._store = store
        self._watchers = watchers
        self._config = config
        watchers.attended = self.attended
        self._room = room
        self._pending = 0
        self._coming: list[tuple[NewDelivery, asyncio.Future[Delivery | None]]] = []
        self._storing: asyncio.Task[None] | None = None
        self._secrets: list[str] = []
        self._secrets_of: Webhooks | None = None
        self._secrets_at = 0.0

    async def secrets(self) -> Sequence[str]:
        """Those that sign now: the secret, and the one before it while that is configured. Raises ConfigError,
        UnavailableError."""
        settings = self._config().agent.webhooks
        if settings is None:
            raise UnavailableError("webhooks are not configured any more")
        if self._secrets_of != settings or time.monotonic() - self._secrets_at > _SECRETS_KEPT_S:
            wanted = {"secret": settings.secret}
            if settings.previous_secret is not None:
                wanted["previous_secret"] = settings.previous_secret
            self._secrets = list((await asyncio.to_thread(resolve_all, wanted)).values())
            self._secrets_of, self._secrets_at = settings, time.monotonic()
        return self._secrets

    async def require_room(self) -> None:
        """Raises UnavailableError when a delivery could not be stored."""
        self._room.require()
        if self._pending >= _PENDING_MAX:
            raise UnavailableError("too many deliveries wait to be looked into")

    async def store(self, guid: str, body: bytes, told: Told) -> bool:
        """Keeps a delivery, which is told on then; False when it was stored before, or when one that asks for the same
        with the same body was: a replay. Of what asks for nothing (two pings may be alike) the GUID alone tells."""
        digest = (await aside(body, hashlib.sha256, body)).hexdigest() if told.asks else f"guid {guid}"
        stored: asyncio.Future[Delivery | None] = asyncio.get_running_loop().create_future()
        self._coming.append((NewDelivery(guid, digest, told, None if told.asks else "nothing to do"), stored))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all(), name="storing of deliveries")
        return await stored is not None

    async def _store_all(self) -> None:
        """What comes while the disk is busy with one transaction goes into the next, however much that is."""
        while self._coming:
            batch, self._coming = self._coming, []
            try:
                found = await self._store.deliveries.add([new for new, _ in batch])
            except Exception as error:  # each sender is told
                for _, stored in batch:
                    if not stored.done():
                        stored.set_exception(error)
                continue
            for (_, stored), delivery in zip(batch, found, strict=True):
                if not stored.done():
                    stored.set_result(delivery)
            await self._tell([delivery for delivery in found if delivery is not None and delivery.outcome is None])

    async def settle(self) -> None:
        """Returns when everything that was stored has been told on."""
        if self._storing is not None:
            await asyncio.wait({self._storing})

    async def tell_all(self) -> None:
        """Tells on what an agent that died, or a watcher that was replaced, had not looked into."""
        self._pending = 0
        await self._tell(await self._store.deliveries.pending())

    async def _tell(self, deliveries: Sequence[Delivery]) -> None:
        self._pending += len(deliveries)
        try:
            nobodys = await self._watchers.tell(deliveries)
            await self._finish(nobodys, "no service is made from this repository")
        except UnavailableError as error:  # they are stored; the next start tells them again
            _log.warning("webhooks are not looked into: %s", error.message)

    async def attended(self, deliveries: Sequence[int]) -> None:
        """These were looked into."""
        await self._finish(deliveries, "looked into")

    async def _finish(self, deliveries: Sequence[int], outcome: str) -> None:
        if deliveries:
            self._pending = max(0, self._pending - await self._store.deliveries.finish(deliveries, outcome))

    async def prune(self) -> None:
        """Forgets old deliveries, for ever."""
        while True:
            try:
                await self._store.deliveries.forget(older_than_days=_KEPT_DAYS)
            except UnavailableError as error:
                _log.warning("old deliveries are not forgotten: %s", error.message)
            await asyncio.sleep(_PRUNE_EVERY_S)


async def aside(body: bytes, work: Callable[..., T], *arguments: Any) -> T:
    """Does what has to go through the whole body: in a thread when it is large, so that nothing else stands still."""
    return await asyncio.to_thread(work, *arguments) if len(body) > _IN_THREAD_FROM else work(*arguments)
