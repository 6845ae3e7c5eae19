"""What becomes of news: a change of a ref or of a pull request is fetched, looked at, and starts a run or does not.

Whatever is decided is stored in one transaction with the note that it was decided. So a change that is told twice, or
by two at once, starts one run, and an agent that dies on the way decides again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from seamless.agent import triggers
from seamless.agent.engine import Engine
from seamless.agent.operations import Operations
from seamless.agent.resources import Resources
from seamless.agent.store import KnownPullRequest
from seamless.agent.triggers import PullRequestChange, PullRequestEvent, RefChange
from seamless.config import Parameters
from seamless.forges import CommitGoneError, Repository
from seamless.forges.github.refs import pull_request_ref
from seamless.model import Actor, CancelRequest, Run, RunOptions, Trigger
from seamless.transitions import RunEvent

_NOTHING: Final = "nothing was run for"


@dataclass(frozen=True, slots=True)
class Place:
    """A service, and its repository with today's credentials. `actor` is who told of the news."""

    service: str
    parameters: Parameters
    repository: Repository
    actor: Actor


class Arrivals:
    def __init__(self, resources: Resources, engine: Engine, operations: Operations) -> None:
        self._resources = resources
        self._store = resources.store
        self._forge = resources.forge
        self._engine = engine
        self._operations = operations

    async def of_ref(self, place: Place, change: RefChange) -> Run | None:
        """The run that a new commit of a branch or tag starts. Raises what `Forge.fetch` raises, and HostError."""
        self._resources.room.require()
        parameters, ref, commit = place.parameters, change.ref, change.after
        await self._forge.fetch(place.repository, commit, ref)
        info = await self._forge.info(place.repository, commit)
        trigger = triggers.trigger_of(change, parameters)
        touched = await self._touched(place, change.before, commit)
        why_not = triggers.why_nothing(parameters, trigger, commit=commit, message=info.message)
        options = RunOptions(on_branch=trigger is Trigger.MAIN)
        async with self._store.transaction():
            if not await self._store.heads.advance(place.service, ref, change.before, commit) or not touched:
                return None
            if why_not is not None:
                await self._tell(place, f"{_NOTHING} {ref}: {why_not}")
                return None
            new = self._operations.new_run(
                place.actor, place.service, trigger, ref, commit, options, parameters, info.subject, info.author
            )
            run = await self._store.runs.create(new)
        self._engine.submit(run)
        return run

    async def of_pull_request(
        self, place: Place, change: PullRequestChange, before: KnownPullRequest | None, base: str
    ) -> Run | None:
        """The run that a change of a pull request starts. `base`: the commit that its target branch has."""
        if change.now is None:
            await self._closed(place, change.number, before)
            return None
        now = change.now
        after = KnownPullRequest(now.number, now.head, waits=now.is_draft and not place.parameters.drafts)
        if change.event is PullRequestEvent.NOTED:
            await self._store.heads.advance_pull_request(place.service, now.number, before, after)
            return None
        trigger = triggers.trigger_of(change.event, place.parameters)
        if now.is_fork and place.parameters.forks == "off":
            async with self._store.transaction():
                if await self._store.heads.advance_pull_request(place.service, now.number, before, after):
                    await self._tell(place, f"{_NOTHING} pull request {now.number}: it comes from a fork")
            return None
        self._resources.room.require()
        await self._forge.fetch(place.repository, now.head, now.ref)
        await self._forge.fetch(place.repository, base, triggers.branch_of(place.parameters))
        info = await self._forge.info(place.repository, now.head)
        shared = await self._forge.merge_base(place.repository, base, now.head)
        touched = await self._touched(place, shared, now.head)
        why_not = triggers.why_nothing(place.parameters, trigger, commit=now.head, message=info.message)
        async with self._store.transaction():
            if not await self._store.heads.advance_pull_request(place.service, now.number, before, after):
                return None
            if not touched:
                return None
            if why_not is not None:
                await self._tell(place, f"{_NOTHING} pull request {now.number}: {why_not}")
                return None
            run = await self._operations.create_for_pull_request(
                place.actor, place.service, place.parameters, now, info, trigger, base=base
            )
        self._engine.submit(run)
        return run

    async def _closed(self, place: Place, number: int, before: KnownPullRequest | None) -> None:
        async with self._store.transaction():
            if not await self._store.heads.advance_pull_request(place.service, number, before, None):
                return
            why = f"pull request {number} was closed, or is no longer for {place.parameters.branch}"
            for run in await self._store.runs.active_of(place.service, pull_request_ref(number)):
                await self._store.runs.request_cancel(run, CancelRequest(RunEvent.CANCEL, why, place.actor.name))

    async def _touched(self, place: Place, before: str | None, after: str) -> bool:
        """Whether the change is one of the service; one that cannot be known is."""
        if before is None or not triggers.watched_patterns(place.parameters):
            return True
        with contextlib.suppress(CommitGoneError):
            await self._forge.fetch(place.repository, before, before)
            return triggers.touches(place.parameters, await self._forge.changed_files(place.repository, before, after))
        return True

    async def _tell(self, place: Place, reason: str) -> None:
        await self._store.events.add("service", "skip", service=place.service, reason=reason, actor=place.actor.name)
