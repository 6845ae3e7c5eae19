"""Tells GitHub what came of a run: a commit status for each, queued with the event and delivered by the courier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from seamless.agent.outbox import UndeliverableError
from seamless.agent.store import Message, Store
from seamless.agent.workspaces import repository_of
from seamless.config import Config, Parameters
from seamless.errors import UsageError
from seamless.forges import CommitGoneError, Repository
from seamless.forges.github import CommitStatus, GitHub, StatusState
from seamless.logtext import because
from seamless.model import STAGE_ENVIRONMENT, Event, Run, Stage, StageName, Trigger
from seamless.transitions import RunState, StageState

CHANNEL: Final = "github"
_OF_IMAGES: Final = (Trigger.ROLLBACK, Trigger.PROMOTE)  # they say nothing about the commit


def topic_of(service: str, commit: str) -> str:
    """What is told about one commit of a service goes in its order."""
    return f"{service} {commit}"


class Reporter:
    """`listen` belongs to the store's event listeners, `deliver` to the courier."""

    def __init__(self, config: Callable[[], Config], store: Store, github: GitHub) -> None:
        self._config = config
        self._store = store
        self._github = github

    async def listen(self, event: Event) -> None:
        """Queues the status that a run's event makes."""
        if event.kind != "run" or event.run is None:
            return
        run = await self._store.runs.get(event.run)
        if self.reports(run):
            state, why = verdict(run)
            await self.report(run, f"status {run.id} {event.id}", state, why, replaces=True)

    async def report(self, run: Run, key: str, state: StatusState, why: str, *, replaces: bool = False) -> None:
        """Queues a status; with `replaces`, instead of whatever waits to be told of that commit."""
        body = {"run": run.id, "state": state, "why": why}
        topic = topic_of(run.service, run.commit)
        await self._store.outbox.add(CHANNEL, key, body, topic=topic, service=run.service, replaces=replaces)

    def reports(self, run: Run) -> bool:
        """Whether GitHub is told of this run at all: it is of a commit there, and we have a token."""
        if run.options.local or run.trigger in _OF_IMAGES:
            return False
        parameters = self.parameters_of(run)
        return parameters.git.token is not None and self._github.hosts(parameters.repo)

    def parameters_of(self, run: Run) -> Parameters:
        """Those in force, whose token may be newer than the run; the run's own when its service is gone or moved."""
        own = Parameters.model_validate(run.parameters)
        now = self._config().services.get(run.service)
        return own if now is None or now.repo != own.repo else now

    async def repository_of(self, run: Run) -> Repository:
        """Raises ConfigError or UnavailableError when its token cannot be read."""
        parameters = self.parameters_of(run)
        return await asyncio.to_thread(repository_of, parameters.repo, parameters.git)

    async def deliver(self, message: Message) -> None:
        """A sender: see agent/outbox.py."""
        run = await self._store.runs.get(message.body["run"])
        why = f"{run.id}: {message.body['why']}"
        status = CommitStatus(StatusState(message.body["state"]), f"seamless/{run.service}", why)
        try:
            await self._github.set_status(await self.repository_of(run), run.commit, status)
        except (CommitGoneError, UsageError) as error:
            raise UndeliverableError(error.message) from error


def verdict(run: Run) -> tuple[StatusState, str]:
    """What a run comes to for its commit, and why in one line."""
    match run.state:
        case RunState.IDLE:
            return StatusState.PENDING, "queued"
        case RunState.IN_PROGRESS:
            return StatusState.PENDING, "running"
        case RunState.AWAITING_APPROVAL:
            return StatusState.PENDING, f"waits for approval: {run.reason}"
        case RunState.SUCCESS:
            return StatusState.SUCCESS, _done(run)
        case RunState.FAILURE:
            return StatusState.FAILURE, _failure(run)
        case RunState.CANCELLED if _passed(run):
            return StatusState.SUCCESS, f"all checks passed; not deployed: {run.reason}"
        case RunState.CANCELLED:
            return StatusState.ERROR, f"cancelled{because('cancelled', run.reason)}"


def _passed(run: Run) -> bool:
    """Whether all that says something about the commit ended well, and something did."""
    checks = [stage for stage in run.stages if stage.name not in STAGE_ENVIRONMENT]
    states = {stage.state for stage in checks}
    return StageState.SUCCESS in states and states <= {StageState.SUCCESS, StageState.SKIPPED}


def _done(run: Run) -> str:
    deployed = [
        environment
        for stage, environment in STAGE_ENVIRONMENT.items()
        if (found := run.stage(stage)) is not None and found.state is StageState.SUCCESS
    ]
    return f"deployed to {deployed[-1]}" if deployed else "all checks passed"


def _failure(run: Run) -> str:
    """The first stage that failed, in pipeline order, and its reason."""
    failed = [stage for stage in run.stages if stage.state is StageState.FAILURE]
    first: Stage | None = min(failed, key=lambda stage: list(StageName).index(stage.name), default=None)
    if first is None:
        return run.reason or "failed"
    others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{first.name}: {first.reason}{others}"
