"""Tells `[notify]`'s places what happens: notices are stored with their events, and sent by the outbox's courier."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from seamless.agent.logs import LogId, LogStore
from seamless.agent.outbox import UndeliverableError
from seamless.agent.store import Message, Store
from seamless.config import Config, Notify
from seamless.errors import NotFoundError, SeamlessError, UsageError
from seamless.findings import Finding, failed, not_checked, ok
from seamless.logtext import Sanitiser
from seamless.model import Actor, Event, Run, StageName, utc_now
from seamless.notifiers import Notice, Notifier
from seamless.notifiers.notices import is_wanted, notice_of, trial_notice
from seamless.transitions import RunState

_log = logging.getLogger(__name__)
_TAIL_BYTES: Final = 16 * 1024
_TAIL_LINES: Final = 12
_STALE: Final = timedelta(days=1)
_TRIAL_S: Final = 20.0


class Notifications:
    """`note` is a listener of the store's events; `send` is the courier's sender for every kind of place."""

    def __init__(
        self, config: Callable[[], Config], store: Store, logs: LogStore, notifiers: Mapping[str, Notifier]
    ) -> None:
        self._config = config
        self._store = store
        self._logs = logs
        self._notifiers = notifiers  # by kind, one for each of NOTIFY_KINDS

    async def note(self, event: Event) -> None:
        """Stores, in the event's own transaction, what there is to tell of it, for each place that wants it."""
        places = self._config().notify
        if not places or event.kind not in ("run", "stage", "deployment", "action", "service"):
            return
        run = None if event.run is None else await self._store.runs.get(event.run)
        was_red = await self._was_red(event, run)
        try:
            notice = notice_of(event, run, was_red=was_red)
        except Exception:  # an error of ours must not undo the event
            _log.exception("there is no notice of event %d", event.id)
            return
        if notice is None:
            return
        for name, place in places.items():
            if is_wanted(notice, place):
                body = {"place": name, "notice": notice.to_json()}
                topic = f"{name}/{event.service or ''}"  # in their order for each service
                await self._store.outbox.add(place.kind, f"{name}/{event.id}", body, topic=topic, service=event.service)

    async def _was_red(self, event: Event, run: Run | None) -> bool:
        if run is None or event.to_state != RunState.SUCCESS or event.kind != "run":
            return False
        newest = await self._store.runs.of_branch(run.service, limit=2)
        return [one.id for one in newest[:1]] == [run.id] and any(one.state is RunState.FAILURE for one in newest[1:])

    async def send(self, message: Message) -> None:
        """Delivers a message of the outbox: with the last lines of its log, to where its place is now."""
        name = message.body["place"]
        place = self._config().notify.get(name)
        if place is None or place.kind != message.channel:
            raise UndeliverableError(f"notify.{name} is not configured any more")
        notice = Notice.from_json(message.body["notice"])
        try:
            await self._notifiers[place.kind].send(place, notice.with_tail(await self._tail(notice)))
        except UsageError as error:
            raise UndeliverableError(f"notify.{name}: {error.message}") from error
        except SeamlessError as error:
            if utc_now() - message.created_at > _STALE:
                raise UndeliverableError(f"notify.{name} has not taken it for a day: {error.message}") from error
            error.message = f"notify.{name}: {error.message}"  # one of several, in the log and in status
            raise

    async def _tail(self, notice: Notice) -> list[str]:
        """The last lines of the notice's log, without colours; nothing when the log is gone."""
        if notice.log is None:
            return []
        run, stage = notice.log
        data = await self._logs.tail(LogId(run, StageName(stage)), _TAIL_BYTES)
        sanitiser = Sanitiser(colour=False)
        lines = (sanitiser.feed(data) + sanitiser.finish()).splitlines()
        whole = lines[1:] if len(data) == _TAIL_BYTES else lines  # the first may have lost its beginning
        return [line for line in whole if line.strip()][-_TAIL_LINES:]

    async def try_out(self, actor: Actor, name: str | None) -> list[Finding]:
        """Sends a test to one place, or to all, at once and past the outbox. Raises NotFoundError."""
        places = self._config().notify
        if name is not None and name not in places:
            known = ", ".join(places) or "none yet"
            raise NotFoundError(f"there is no notify.{name}", hint=f"configured: {known}")
        wanted = [(one, place) for one, place in places.items() if name in (None, one)]
        if not wanted:
            return [not_checked("notify", "nobody is to be told anything", "add a [notify.NAME] to the configuration")]
        return list(await asyncio.gather(*(self._try(actor, one, place) for one, place in wanted)))

    async def _try(self, actor: Actor, name: str, place: Notify) -> Finding:
        now = utc_now()
        notice = trial_notice(f"test-{now.timestamp():.6f}", now.isoformat(), name, actor.name)
        subject = f"notify.{name}"
        mend = f"see that it is there, or change {subject}.{place.kind} in {self._config().file}"
        try:
            async with asyncio.timeout(_TRIAL_S):
                await self._notifiers[place.kind].send(place, notice)
        except TimeoutError:
            return failed(subject, SeamlessError(f"{place.kind} has not answered for {_TRIAL_S:.0f} s"), mend=mend)
        except SeamlessError as error:
            return failed(subject, error, mend=mend)
        return ok(subject, f"{place.kind} took a test message; look whether it has arrived")
