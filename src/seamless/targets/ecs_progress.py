"""What a run's log tells while a deployment goes on: each event once, counts when they change, tasks that ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from seamless.errors import SeamlessError
from seamless.targets import Journal, Log
from seamless.targets.ecs_explain import events_since, task_lines
from seamless.targets.ecs_plan import short_name
from seamless.targets.ecs_service import EcsService
from seamless.targets.ecs_sight import Ours, Part, Sight, State

_REMEMBERED: Final = 200  # ids; ECS keeps the last 100 events


class Progress:
    """What was told is in the journal, so that a restarted agent does not tell it again."""

    def __init__(self, ecs: EcsService, journal: Journal, log: Log, since: float) -> None:
        self._ecs = ecs
        self._journal = journal
        self._log = log
        self._since = since
        self._counts: str | None = None
        self._failed = 0
        self._state: State | None = None

    async def tell(self, service: Mapping[str, Any], sight: Sight, ours: Ours) -> None:
        await self.tell_events(service)
        if sight.mine is not None:
            await self.tell_counts(sight.mine)
            if sight.mine.failed > self._failed:
                await self._tell_tasks(ours.id)
            self._failed = sight.mine.failed
        if sight.state is not self._state and sight.state in (State.ROLLING_BACK, State.ROLLED_BACK):
            await self._log(f"ECS goes back to {short_name(sight.primary.definition)}")
        self._state = sight.state

    async def tell_events(self, service: Mapping[str, Any]) -> None:
        fresh = [(str(event["id"]), str(event["message"])) for event in events_since(service, self._since)]
        await self._once(fresh, "told_events")

    async def tell_counts(self, part: Part) -> None:
        told = f"{short_name(part.definition)}: {part.counts}"
        if told != self._counts:
            self._counts = told
            await self._log(told)

    async def _tell_tasks(self, deployment: str) -> None:
        try:
            tasks = await self._ecs.stopped_tasks(deployment)
        except SeamlessError:  # the explanation at the end says that they cannot be read
            return
        await self._once([(str(task["taskArn"]), "\n".join(task_lines(task))) for task in tasks], "told_tasks")

    async def _once(self, items: list[tuple[str, str]], key: str) -> None:
        told: list[str] = list(self._journal.get(key) or ())
        new = [(identity, text) for identity, text in items if identity not in told]
        for _, text in new:
            for line in text.splitlines():
                await self._log(line)
        if new:
            await self._journal.record(**{key: [*told, *(identity for identity, _ in new)][-_REMEMBERED:]})
