"""The way back from a deployment that failed, to its end: stopped by ECS, or the earlier task definition again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from seamless.aws.errors import AwsExpiredError, AwsThrottledError
from seamless.crashpoints import crash_point
from seamless.errors import HostError, SeamlessError, UnavailableError
from seamless.targets import Journal, Log
from seamless.targets.ecs_plan import short_name
from seamless.targets.ecs_progress import Progress
from seamless.targets.ecs_service import EcsService
from seamless.targets.ecs_sight import Ours, Part, primary_of
from seamless.targets.ecs_spec import Timing
from seamless.transitions import DeploymentEvent

_STOPPABLE: Final = frozenset({"PENDING", "IN_PROGRESS"})
_SURE: Final = 2

Read = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class BackOut:
    """`read` asks until it has an answer or raises BlindError; `left_s`: seconds until it is given up."""

    def __init__(
        self,
        ecs: EcsService,
        ours: Ours,
        journal: Journal,
        log: Log,
        timing: Timing,
        read: Read,
        left_s: Callable[[], float],
    ) -> None:
        self._ecs = ecs
        self._ours = ours
        self._journal = journal
        self._log = log
        self._timing = timing
        self._read = read
        self._left_s = left_s

    async def run(self, progress: Progress, since: float, *, by_ecs: bool) -> tuple[DeploymentEvent, str]:
        """Takes the way that suits, once, and follows it. What became of it, to follow the failure's reason."""
        if self._ours.old_definition == self._ours.definition:
            return DeploymentEvent.FAIL, "it ran before as well: there is nothing to go back to"
        if self._journal.get("back") is None:
            primary = await self._primary()
            if by_ecs or primary.definition != self._ours.definition:
                await self._journal.record(back={"by": "ecs"})
            elif not await self._stop(since):
                await self._journal.record(back={"by": "update"})
                await self._log(f"going back to {short_name(self._ours.old_definition)}")
        if self._journal.get("back")["by"] == "update" and (refused := await self._update()) is not None:
            return DeploymentEvent.FAIL, f"could not go back to {short_name(self._ours.old_definition)}: {refused}"
        return await self._follow(progress)

    async def _stop(self, since: float) -> bool:
        """Has ECS stop our deployment and roll it back; False when it cannot, and nothing was asked."""
        try:
            known = await self._ecs.service_deployment(self._ours.definition, since)
            if known is None or known["status"] not in _STOPPABLE:
                return False
            crash_point("deploy.ecs.stop:before_effect")
            await self._ecs.stop(known["serviceDeploymentArn"])
            crash_point("deploy.ecs.stop:after_effect")
        except HostError:  # our own journal's
            raise
        except SeamlessError as error:
            await self._log(f"the deployment cannot be stopped: {error.reason}")
            return False
        await self._log("asked ECS to stop the deployment and to roll back")
        await self._journal.record(back={"by": "stop"})
        return True

    async def _update(self) -> str | None:
        """UpdateService with the earlier definition, once; or why ECS refuses it."""
        perhaps_done = bool(self._journal.get("back").get("sending"))
        while not self._journal.get("back").get("sent"):
            if not (perhaps_done and await self._shows_up()):
                await self._journal.record(back={"by": "update", "sending": True})
                crash_point("deploy.ecs.back:before_effect")
                try:
                    await self._ecs.update(self._ours.old_definition)
                except (AwsThrottledError, AwsExpiredError) as error:
                    if self._left_s() <= 0:
                        return error.message
                    await self._timing.pause()
                    continue
                except UnavailableError as error:
                    await self._log(f"{error.message}; looking whether it was done")
                    perhaps_done = True
                    if self._left_s() <= 0:
                        return error.message
                    continue
                except SeamlessError as error:
                    return error.message
                crash_point("deploy.ecs.back:after_effect")
            await self._journal.record(back={"by": "update", "sent": True})
        return None

    async def _shows_up(self) -> bool:
        """Whether an UpdateService whose answer was lost was done."""
        begun = self._timing.read()
        while (self._timing.elapsed_s(begun) or 0.0) < self._timing.visible_s:
            if (await self._primary()).definition != self._ours.definition:
                return True
            await self._timing.pause()
        return False

    async def _follow(self, progress: Progress) -> tuple[DeploymentEvent, str]:
        steady = 0
        while True:
            service = await self._read(self._ecs.describe)
            await progress.tell_events(service)
            primary = primary_of(service)
            if primary is not None and primary.definition != self._ours.definition:
                await progress.tell_counts(primary)
                steady = steady + 1 if primary.stable else 0
                name = short_name(primary.definition)
                if steady >= _SURE:
                    by_ecs = self._journal.get("back")["by"] == "ecs"
                    return DeploymentEvent.ROLL_BACK, f"{'ECS ' if by_ecs else ''}rolled back to {name}"
                if primary.state == "FAILED":
                    return DeploymentEvent.FAIL, f"went back to {name}, which ECS gave up as well"
            if self._left_s() <= 0 and not steady:  # what was seen stable once is looked at once more
                if primary is None or primary.definition == self._ours.definition:
                    name = short_name(self._ours.definition)
                    return DeploymentEvent.FAIL, f"{name} is still in force: ECS has not rolled it back"
                name = short_name(primary.definition)
                return DeploymentEvent.FAIL, f"went back to {name}, which is not stable either: {primary.counts}"
            await self._timing.pause()

    async def _primary(self) -> Part:
        while True:
            service = await self._read(self._ecs.describe)
            if (primary := primary_of(service)) is not None:
                return primary
            await self._timing.pause()
