"""Delivers the messages of the outbox: each until it is there, with back-off, and never in anybody's way.

Who has something to tell adds a message to `store.outbox` in the transaction of the event; the
channel's sender is called with it until it returns. A sender says by its exception what next:
UndeliverableError gives the message up; NotYetError waits without there being a problem; any other
error waits and is shown as the service's problem. `retry_after_s` on an error is respected.

A message may be sent twice: when the agent dies between the far end's answer and its record.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from seamless.agent.store import Store
from seamless.agent.store.outbox import LONGEST_WAIT_S, Message, Outcome
from seamless.crashpoints import crash_point
from seamless.errors import SeamlessError
from seamless.model import utc_now

Sender = Callable[[Message], Awaitable[None]]

_FIRST_WAIT_S: Final = 2.0
_BACK_OFF_MAX_S: Final = 300.0
MOST_ATTEMPTS: Final = 2000  # a week of them, by the longest back-off; no clock that is set ends it sooner
_KEPT: Final = timedelta(days=14)
_PRUNED_EVERY_S: Final = 3600.0
_PARALLEL: Final = 4  # messages of one channel on their way
_log = logging.getLogger(__name__)


class UndeliverableError(SeamlessError):
    """The far end will never take this message; the text says why."""

    code = "undeliverable"


class NotYetError(SeamlessError):
    """What the message asks for cannot be done yet, and that is no fault; the text says what it waits for."""

    code = "not_yet"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def wait_s(attempts: int, error: Exception, chance: float) -> float:
    """Until the next attempt, after `attempts` that failed: 2 s, doubled up to 5 min, ±10 %; what the far end asks
    for, when that is longer. At most an hour."""
    back_off_s = min(_FIRST_WAIT_S * 2.0 ** min(attempts - 1, 20), _BACK_OFF_MAX_S) * (0.9 + 0.2 * chance)
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    return float(min(max(back_off_s, asked_s), LONGEST_WAIT_S))


class Courier:
    """`deliver` runs as long as the agent. A channel without a sender keeps its messages until it has one again."""

    def __init__(self, store: Store, senders: Mapping[str, Sender]) -> None:
        self._store = store
        self._senders = dict(senders)
        self._free = {channel: asyncio.Semaphore(_PARALLEL) for channel in senders}
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def deliver(self) -> None:
        """For ever. Cancelled, it leaves what is on its way to be sent again."""
        try:
            pruned_at = -_PRUNED_EVERY_S
            while True:
                now = asyncio.get_running_loop().time()
                try:
                    if now - pruned_at > _PRUNED_EVERY_S:
                        await self._store.outbox.prune(_KEPT)
                        pruned_at = now
                    pause_s = await self._send_what_is_due()
                except Exception:  # the disk is full, for example: the messages wait
                    _log.exception("the outbox cannot be read")
                    pause_s = _FIRST_WAIT_S
                await self._news(pause_s)
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _news(self, within_s: float | None) -> None:
        try:
            await asyncio.wait_for(self._store.outbox.news.wait(), within_s)
        except TimeoutError:
            return

    async def _send_what_is_due(self) -> float | None:
        """Starts sending; returns the seconds until the next message is due, None when none waits."""
        self._store.outbox.news.clear()
        soonest_s = None
        for message in await self._store.outbox.first_of_topics(self._senders):
            topic = (message.channel, message.topic)
            if topic in self._under_way:
                continue  # its end is news
            due_in_s = (message.next_try_at - utc_now()).total_seconds()
            if 0 < due_in_s <= LONGEST_WAIT_S:
                soonest_s = due_in_s if soonest_s is None else min(soonest_s, due_in_s)
                continue
            task = asyncio.create_task(self._send(message), name=f"message {message.channel} {message.key}")
            self._under_way[topic] = task
        return soonest_s

    async def _send(self, message: Message) -> None:
        try:
            async with self._free[message.channel]:
                await self._attempt(message)
        except Exception:
            _log.exception("%s %s: what came of it cannot be stored", message.channel, message.key)
            await asyncio.sleep(_FIRST_WAIT_S)
        finally:
            del self._under_way[message.channel, message.topic]
            self._store.outbox.news.set()

    async def _attempt(self, message: Message) -> None:
        outbox = self._store.outbox
        try:
            crash_point(f"outbox.{message.channel}:before_effect")
            await self._senders[message.channel](message)
            crash_point(f"outbox.{message.channel}:after_effect")
        except UndeliverableError as error:
            await self._give_up(message, error.message)
        except NotYetError as error:
            await self._wait(message, error, None)
        except SeamlessError as error:
            await self._wait(message, error, error.reason)
        except Exception as error:
            _log.exception("%s %s", message.channel, message.key)
            await self._wait(message, error, f"an error in Seamless itself: {type(error).__name__}")
        else:
            await outbox.end(message, Outcome.DELIVERED)

    async def _wait(self, message: Message, error: Exception, problem: str | None) -> None:
        attempts = message.attempts + 1
        if attempts >= MOST_ATTEMPTS:
            await self._give_up(message, f"after {attempts} attempts: {error}")
            return
        if problem is not None and problem != message.problem:
            _log.warning("%s: %s", message.service or message.channel, problem)
        await self._store.outbox.postpone(message, problem, wait_s(attempts, error, random.random()))

    async def _give_up(self, message: Message, why: str) -> None:
        _log.warning("%s %s is given up: %s", message.channel, message.key, why)
        async with self._store.transaction():
            if await self._store.outbox.end(message, Outcome.GIVEN_UP, why):
                await self._store.events.add(
                    "message",
                    "give_up",
                    service=message.service,
                    reason=why,
                    actor="agent",
                    data={"channel": message.channel, "key": message.key},
                )
