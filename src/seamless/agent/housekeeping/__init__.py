"""What is removed because it was kept long enough: images, logs, runs, checkouts, mirrors, caches, kept workspaces.

By age and number each hour, and at once with shorter ages while the host is short of room. Never what runs, what a
rollback would take, what a hold or an approval means, or what a run that has not ended stands on: the store decides
that again in the transaction that gives each thing up, before it is removed. Logs that stay are packed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from seamless.agent.housekeeping.garbage import Collected, Turn
from seamless.agent.housekeeping.history import logs, pack_logs, runs
from seamless.agent.housekeeping.images import images
from seamless.agent.housekeeping.sources import caches, checkouts, mirrors, workspaces
from seamless.agent.resources import Resources
from seamless.errors import SeamlessError
from seamless.model import Actor, utc_now

__all__ = ["Collected", "Housekeeper"]

_LOOK_S: Final = 60.0
_EVERY_TURNS: Final = 60
_FINDERS: Final = (workspaces, images, runs, logs, checkouts, mirrors, caches)  # the log of a run goes with it
_log = logging.getLogger(__name__)


class Housekeeper:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._busy = asyncio.Lock()
        self._stays: set[str] = set()  # what could not be removed the last time, as it was told

    async def keep_house(self) -> None:
        """For ever."""
        turn = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            turn += 1
            pressed = self._resources.room.shortage() is not None
            if pressed or turn % _EVERY_TURNS == 0:
                await self.collect(pressed=pressed)

    async def collect(
        self, *, pressed: bool = False, dry_run: bool = False, actor: Actor | None = None
    ) -> list[Collected]:
        """Removes what may go, and returns it; what cannot be removed is told, and tried again next time.

        `actor`: who asks, None for the agent's own clock.
        """
        found: list[Collected] = []
        turn = Turn(utc_now(), pressed, asked=actor is not None)
        stays: set[str] = set()
        async with self._busy:
            for find in _FINDERS:
                async for garbage in find(self._resources, turn):
                    try:
                        if dry_run or await garbage.remove():
                            found.append(garbage.told())
                    except (SeamlessError, OSError) as error:
                        stays.add(told := f"{garbage.kind} {garbage.name} could not be removed: {error}")
                        if told not in self._stays:  # once, and not each hour
                            _log.warning("%s", told)
                        found.append(
                            garbage.told(kept=error.reason if isinstance(error, SeamlessError) else str(error))
                        )
            self._stays = self._stays if dry_run else stays
            gone = {one.name for one in found if one.kind in ("run", "log")}  # still there in a dry run
            found += [one for one in await pack_logs(self._resources, dry_run=dry_run) if one.name not in gone]
        counts = Counter(one.kind for one in found if one.kept is None)
        if counts and not dry_run:
            who = Actor("agent") if actor is None else actor
            kind = "agent" if actor is None else "action"
            await self._resources.store.events.add(kind, "gc", actor=who.name, origin=who.origin, data=counts)
        return found
