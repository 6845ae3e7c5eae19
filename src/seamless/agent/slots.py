"""Slots of `max_parallel_runs`, fair between services."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Waiting:
    run: str
    service: str
    turn: asyncio.Future[None]


class Slots:
    """A run holds one slot while it executes stages, however many. The service with the fewest slots
    goes first, then who asked first, also when it has turned to something else meanwhile."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: dict[str, str] = {}  # run -> service
        self._waiting: list[_Waiting] = []
        self._places = itertools.count()
        self._place: dict[str, int] = {}  # in the queue, by run, until it has its slot

    def holds(self, run: str) -> bool:
        return run in self._held

    def resize(self, limit: int) -> None:
        """Takes effect as slots come free; nothing that runs is stopped."""
        self.limit = limit
        self._hand_out()

    def adopt(self, run: str, service: str) -> None:
        """A slot at once, even beyond the limit: the run's containers are running already."""
        self._held[run] = service

    async def acquire(self, run: str, service: str) -> None:
        if run in self._held:
            return
        self._place.setdefault(run, next(self._places))
        waiting = _Waiting(run, service, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._hand_out()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                self.release(run)
            raise

    def release(self, run: str) -> None:
        """Gives up the slot, or the place in the queue."""
        self._place.pop(run, None)
        if self._held.pop(run, None) is not None:
            self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and len(self._held) < self.limit:
            load = Counter(self._held.values())
            chosen = min(self._waiting, key=lambda one: (load[one.service], self._place[one.run]))
            self._waiting.remove(chosen)
            if not chosen.turn.done():
                self._held[chosen.run] = chosen.service
                del self._place[chosen.run]
                chosen.turn.set_result(None)
