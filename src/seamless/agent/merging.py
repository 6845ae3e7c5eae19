"""Merges the pull requests whose checks have passed, where a service asks for it: `auto_merge`.

The merge waits in the outbox behind the status of the same commit, so that GitHub knows of the
success when it is asked to merge; a newer run of that commit takes its place. What comes of it is an
event of the run: merge, wait or refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from seamless.agent.outbox import MOST_ATTEMPTS, NotYetError, UndeliverableError
from seamless.agent.reporting import CHANNEL, Reporter, topic_of
from seamless.agent.store import Message, Store
from seamless.agent.triggers import watches_pull_requests
from seamless.config import Config, Parameters
from seamless.errors import SeamlessError
from seamless.forges.github import GitHub, MergeMethod, MergeRefusedError, StatusState
from seamless.forges.github.refs import pull_request_number
from seamless.model import Event, Run, Trigger, Trust, short
from seamless.transitions import RUN_ENDED, RunEvent, RunState

EVENT_KIND: Final = "merge"


def pull_request_of(run: Run) -> int | None:
    """The number of the pull request that a run tests."""
    return pull_request_number(run.ref) if run.trigger in (Trigger.PR_OPEN, Trigger.PR_SYNC) else None


class Merger:
    """`listen` belongs to the store's event listeners, after the reporter's; `deliver` is a sender."""

    def __init__(self, config: Callable[[], Config], store: Store, github: GitHub, reporter: Reporter) -> None:
        self._config = config
        self._store = store
        self._github = github
        self._reporter = reporter

    async def listen(self, event: Event) -> None:
        """Queues the merge of a pull request whose run has succeeded."""
        if event.kind != "run" or event.name != RunEvent.SUCCEED or event.run is None:
            return
        run = await self._store.runs.get(event.run)
        parameters = Parameters.model_validate(run.parameters)
        number = pull_request_of(run)
        if number is None or parameters.auto_merge is None or run.trust is not Trust.REPOSITORY:
            return
        if not self._reporter.reports(run):
            return
        body = {"merge": number, "run": run.id, "commit": run.commit, "method": parameters.auto_merge}
        topic = topic_of(run.service, run.commit)
        await self._store.outbox.add(CHANNEL, f"merge {run.id}", body, topic=topic, service=run.service)

    async def deliver(self, message: Message) -> None:
        """A sender: see agent/outbox.py."""
        run = await self._store.runs.get(message.body["run"])
        number, method = message.body["merge"], MergeMethod(message.body["method"])
        try:
            await self._insist_on_the_others(run)
            repository = await self._reporter.repository_of(run)
            commit = await self._github.merge(repository, number, run.commit, method)
        except MergeRefusedError as error:
            if error.may_change and message.attempts + 1 < MOST_ATTEMPTS:
                await self._tell(run, "wait", error.message)
                raise NotYetError(error.message) from error
            await self._refused(run, error)
            raise UndeliverableError(f"#{number} is not merged: {error.message}") from error
        await self._tell(run, "merge", f"#{number} merged as {short(commit)} ({method})")

    async def _insist_on_the_others(self, run: Run) -> None:
        """The other services that the same pull request touches must have passed as well. Raises MergeRefusedError."""
        await self._insist_on_a_look_by_all(run)
        for other in await self._store.runs.newest_of_commit(run.ref, run.commit):
            if other.service == run.service or other.parameters["repo"] != run.parameters["repo"]:
                continue
            if other.state not in RUN_ENDED:
                raise MergeRefusedError(f"{other.id} has not ended", may_change=True)
            if other.state is not RunState.SUCCESS:
                raise MergeRefusedError(f"{other.id}: {other.state}", may_change=False)

    async def _insist_on_a_look_by_all(self, run: Run) -> None:
        """A service that has not seen this commit yet may have something to say: its repository stalls, for example."""
        config, number = self._config(), pull_request_of(run)
        if number is None or not (config.agent.poll or config.agent.webhooks):
            return
        mine = Parameters.model_validate(run.parameters)
        for name, parameters in config.services.items():
            if name == run.service or (parameters.repo, parameters.branch) != (mine.repo, mine.branch):
                continue
            if watches_pull_requests(parameters):
                known = (await self._store.heads.pull_requests(name)).get(number)
                if known is None or known.head != run.commit:
                    raise MergeRefusedError(f"{name} has not looked at {short(run.commit)} yet", may_change=True)

    async def _refused(self, run: Run, error: SeamlessError) -> None:
        async with self._store.transaction():
            await self._tell(run, "refuse", error.message)
            await self._reporter.report(
                run, f"not merged {run.id}", StatusState.SUCCESS, f"all checks passed; not merged: {error.message}"
            )

    async def _tell(self, run: Run, name: str, reason: str) -> None:
        """Once for each reason, however often it is tried."""
        last = await self._store.events.last(EVENT_KIND, run.id)
        if last is None or (last.name, last.reason) != (name, reason):
            await self._store.events.add(
                EVENT_KIND, name, service=run.service, run=run.id, reason=reason, actor="agent"
            )


def told(last: Event | None) -> str | None:
    """In words, what has come of a run's merge so far; `last` is its newest event."""
    if last is None:
        return None
    return {"merge": f"{last.reason}", "wait": f"waits: {last.reason}", "refuse": f"not merged: {last.reason}"}[
        last.name
    ]


class GitHubChannel:
    """All that GitHub is told, in one channel: `listen` for the store's event listeners, `deliver` for the courier."""

    def __init__(self, config: Callable[[], Config], store: Store, github: GitHub) -> None:
        self._reporter = Reporter(config, store, github)
        self._merger = Merger(config, store, github, self._reporter)

    async def listen(self, event: Event) -> None:
        await self._reporter.listen(event)
        await self._merger.listen(event)

    async def deliver(self, message: Message) -> None:
        await (self._merger if "merge" in message.body else self._reporter).deliver(message)
