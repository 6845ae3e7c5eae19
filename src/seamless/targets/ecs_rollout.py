"""One deployment to ECS, from what is there to the truth about it.

Its steps are recorded in the journal before and after each effect, so that an agent that was killed goes on with the
same deployment: `plan` (what is there), `definition` (the revision that was registered), `task` (the one before the
deploy), `submitting` and `ours` (the one UpdateService), `failure` and `back` (the way back), `outcome`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, TypeVar

from seamless.aws.errors import AwsExpiredError, AwsThrottledError
from seamless.crashpoints import crash_point
from seamless.errors import HostError, SeamlessError, UnavailableError
from seamless.targets import DeployOutcome, DeployRequest, Journal, Log, after
from seamless.targets.ecs_back import BackOut
from seamless.targets.ecs_before import BeforeDeploy
from seamless.targets.ecs_explain import Explanation, explain
from seamless.targets.ecs_plan import new_tags, short_name
from seamless.targets.ecs_preparing import Prepared, Preparing, tags_for, who_made
from seamless.targets.ecs_progress import Progress
from seamless.targets.ecs_service import EcsService
from seamless.targets.ecs_sight import Ours, Part, Sight, State, look, parts, primary_of
from seamless.targets.ecs_spec import Spec, Timing
from seamless.transitions import DeploymentEvent

T = TypeVar("T")

_SURE: Final = 3  # answers in a row that must say the same before something is believed that stale ones could say
_OVER: Final = ("STOP", "ROLLBACK")  # beginnings of the statuses of a deployment that did not stay
_GAVE_UP: Final = "ECS gave the deployment up"
_ROLLBACK_BEGINS_S: Final = 20.0  # in which ECS's own rollback shows up after it gave a deployment up


class BlindError(Exception):
    """ECS could not be read until the deadline; the message says what it, or the way to it, answered last."""


class CancelRequestedError(Exception):
    """Somebody cancelled the deployment before the service was changed."""


class FailureError(Exception):
    """The deployment failed, or somebody cancelled it: then `reason` is None.

    `by_ecs`: ECS itself puts back what ran before.
    """

    def __init__(self, reason: str | None, explanation: Explanation, *, by_ecs: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.explanation = explanation
        self.by_ecs = by_ecs


class EcsRollout:
    def __init__(
        self, ecs: EcsService, spec: Spec, request: DeployRequest, journal: Journal, log: Log, timing: Timing,
        preparing: Preparing,
    ) -> None:  # fmt: skip
        self._ecs = ecs
        self._spec = spec
        self._request = request
        self._journal = journal
        self._log = log
        self._timing = timing
        self._preparing = preparing
        self._seen = False

    async def run(self) -> DeployOutcome:
        """The verdict. Cancelling the task leaves everything as it is, to be gone on with."""
        if recorded := self._journal.get("outcome"):
            return DeployOutcome(DeploymentEvent(recorded["event"]), recorded["reason"], recorded["detail"])
        try:
            if self._journal.get("submitting") is None:
                try:
                    await self._before_the_service()
                except HostError:  # our own journal's
                    raise
                except SeamlessError as error:
                    return await self._unchanged(error.reason)
            self._prepared = Prepared.from_json(self._journal.get("plan"))
            self._progress = Progress(self._ecs, self._journal, self._log, self._prepared.since)
            return await self._with_the_service()
        except CancelRequestedError:
            return await self._unchanged(None)
        except BlindError as blind:
            await self._log(f"{blind}: what the service runs cannot be read")
            return DeployOutcome(DeploymentEvent.LOSE_SIGHT, str(blind))

    # Before the service is touched

    async def _before_the_service(self) -> None:
        if self._journal.get("plan") is None:
            prepared = await self._preparing.prepare(self._request, self._log)
            await self._journal.record(plan=prepared.to_json())
        self._prepared = Prepared.from_json(self._journal.get("plan"))
        definition = await self._register()
        if self._spec.before_deploy is not None:
            await BeforeDeploy(
                self._ecs, self._spec, self._request, self._journal, self._log, self._timing, self._prepared, definition
            ).run()
        self._refuse_if_cancelled()

    async def _register(self) -> str:
        """The task definition to deploy: the recorded one of a rollback, else a new revision; once."""
        if (known := self._journal.get("definition")) is not None:
            return str(known)
        if self._prepared.parameters is None:
            arn = self._prepared.reuse
        else:
            tags = tags_for(self._request, self._preparing.installation)
            arn = None
            if self._journal.get("registering"):
                arn = await self._ecs.newest_tagged(self._prepared.parameters["family"], tags)
            await self._journal.record(registering=True)
            if arn is None:
                self._refuse_if_cancelled()
                crash_point("deploy.ecs.register:before_effect")
                try:
                    arn = await self._ecs.register(self._prepared.parameters, new_tags(self._prepared.tags, tags))
                except UnavailableError:
                    arn = await self._ecs.newest_tagged(self._prepared.parameters["family"], tags)
                    if arn is None:
                        raise
                crash_point("deploy.ecs.register:after_effect")
            await self._log(f"registered the task definition {short_name(arn)}")
        await self._journal.record(definition=arn)
        return str(arn)

    def _refuse_if_cancelled(self) -> None:
        if self._request.cancel.is_set():
            raise CancelRequestedError

    # The service

    async def _with_the_service(self) -> DeployOutcome:
        await self._start("clock")
        if self._journal.get("ours") is None:
            refused = await self._submit()
            if refused is not None:
                return await self._unchanged(refused)
        self._ours = Ours(**self._journal.get("ours"))
        if self._journal.get("failure") is None:
            try:
                return await self._follow()
            except FailureError as failure:
                await self._record_failure(failure)
        return await self._go_back()

    async def _submit(self) -> str | None:
        """The one UpdateService; or why ECS refuses it."""
        definition = str(self._journal.get("definition"))
        perhaps_done = self._journal.get("submitting") is not None
        if not perhaps_done:
            await self._journal.record(submitting=True)
        accepted = False
        while True:
            found = await self._find_submitted(definition) if perhaps_done else None
            if found is None and accepted:
                await self._wait_out(UnavailableError("ECS does not show the deployment that it accepted"))
                continue
            if found is None:
                self._refuse_if_cancelled()
                crash_point("deploy.ecs.update:before_effect")
                try:
                    service = await self._ecs.update(definition)
                except (AwsThrottledError, AwsExpiredError) as error:  # it was not done
                    await self._wait_out(error)
                    continue
                except UnavailableError as error:
                    await self._log(f"{error.message}; looking whether it was done")
                    perhaps_done = True
                    await self._wait_out(error)
                    continue
                except SeamlessError as error:
                    return error.reason
                crash_point("deploy.ecs.update:after_effect")
                primary = primary_of(service)
                found = primary.id if primary is not None and primary.definition == definition else None
                if found is None:  # an answer from before its effect
                    perhaps_done = accepted = True
                    continue
            ours = Ours(found, definition, self._prepared.old_id, self._prepared.old_definition)
            await self._journal.record(ours=asdict(ours))
            await self._log(f"ECS deployment {found or '(its id is not known)'} of {short_name(definition)}")
            return None

    async def _find_submitted(self, definition: str) -> str | None:
        """The id of the deployment that an UpdateService whose answer is not known has made; "" when it is over.

        None: it was not done, as far as ECS shows it within a while.
        """
        begun = self._timing.read()
        old_id, old_definition = self._prepared.old_id, self._prepared.old_definition
        while True:
            service = await self._read(self._ecs.describe)
            for part in parts(service):
                if part.definition == definition and (part.id != old_id or definition == old_definition):
                    return part.id
            if (self._timing.elapsed_s(begun) or 0.0) >= self._timing.visible_s:
                known = await self._known_by_list(definition)
                replaced = any(part.primary and part.definition != old_definition for part in parts(service))
                if known is None or known.startswith(_OVER) or replaced:
                    return None if known is None else ""
                await self._wait_out(UnavailableError(f"ECS lists the deployment as {known}, and does not show it yet"))
            else:
                await self._timing.pause()

    async def _known_by_list(self, definition: str) -> str | None:
        """The status of our deployment in ECS's list of deployments; None when it is not there or cannot be read."""
        try:
            known = await self._ecs.service_deployment(definition, self._prepared.since)
        except SeamlessError:  # not every account may list them; then what the service shows is all there is
            return None
        return None if known is None else str(known["status"])

    async def _wait_out(self, error: SeamlessError) -> None:
        if self._remaining_s("clock") <= 0:
            raise BlindError(error.message) from error
        await self._timing.pause(self._request.cancel)

    async def _follow(self) -> DeployOutcome:
        """To the end of our deployment. Raises FailureError."""
        self._seen = not self._ours.id
        same: tuple[State | None, int] = (None, 0)
        while True:
            service, sight = await self._look()
            self._seen = self._seen or sight.mine is not None
            await self._progress.tell(service, sight, self._ours)
            same = (sight.state, same[1] + 1 if same[0] is sight.state else 1)
            sure = same[1] >= _SURE or (sight.mine is not None and sight.mine.state == "FAILED")
            match sight.state:
                case State.COMPLETED if sight.mine is not None:
                    return await self._complete(sight.mine)
                case State.FAILED if not await self._ecs_rolls_back(service):
                    raise await self._failure(service, _GAVE_UP)
                case State.ROLLING_BACK | State.ROLLED_BACK if sure:
                    raise await self._rolled_back(service)
                case State.SUPERSEDED if sure:
                    return await self._superseded(service, sight)
            if self._request.cancel.is_set():
                raise FailureError(None, await self._explain(service))
            if self._remaining_s("clock") <= 0:
                reason = f"not stable after {self._request.deadline_s:g} s"
                raise await self._failure(service, f"{reason}: {_counts(sight)}")
            await self._timing.pause(self._request.cancel)

    async def _ecs_rolls_back(self, service: Mapping[str, Any]) -> bool:
        """Whether to wait for ECS's own rollback, which follows a little later on the failure of a deployment."""
        configuration = service.get("deploymentConfiguration") or {}
        watchers = [configuration.get(key) or {} for key in ("deploymentCircuitBreaker", "alarms")]
        if not any(each.get("enable") and each.get("rollback") for each in watchers):
            return False
        if (gave_up := self._journal.get("gave_up")) is None:
            await self._journal.record(gave_up=self._timing.read())
            return True
        elapsed_s = self._timing.elapsed_s(gave_up)
        return elapsed_s is not None and elapsed_s < _ROLLBACK_BEGINS_S

    async def _complete(self, mine: Part) -> DeployOutcome:
        name = short_name(self._ours.definition)
        if mine.desired == 0:
            unproven = "the service is scaled to 0, so nothing runs that could prove it"
            return await self._conclude(DeploymentEvent.COMPLETE, f"{name} is in force; {unproven}", unproven=unproven)
        tasks = "1 task runs" if mine.running == 1 else f"{mine.running} tasks run"
        took_s = self._timing.elapsed_s(self._journal.get("clock")) or 0.0
        return await self._conclude(DeploymentEvent.COMPLETE, f"{tasks} {name} after {took_s:.0f} s")

    async def _superseded(self, service: Mapping[str, Any], sight: Sight) -> DeployOutcome:
        known = await self._known_by_list(self._ours.definition)
        if known is not None and known.startswith(_OVER):  # further back than what ran before
            raise await self._rolled_back(service)
        theirs = sight.primary.definition
        made = await who_made(self._ecs, theirs, self._preparing.installation)
        reason = f"another deployment took its place: {short_name(theirs)}"
        return await self._conclude(DeploymentEvent.SUPERSEDE, f"{reason}, {made}" if made else reason)

    async def _failure(self, service: Mapping[str, Any], reason: str) -> FailureError:
        told = await self._explain(service)
        return FailureError(reason if told.cause is None else f"{told.cause}; {reason}", told)

    async def _rolled_back(self, service: Mapping[str, Any]) -> FailureError:
        """By ECS, which `BackOut` follows and tells."""
        told = await self._explain(service)
        return FailureError(told.cause or _GAVE_UP, told, by_ecs=True)

    async def _explain(self, service: Mapping[str, Any]) -> Explanation:
        try:
            definition, _ = await self._ecs.definition(self._ours.definition)
            since = self._prepared.since
            return await explain(self._ecs, service, definition, self._prepared.container, self._ours.id, since)
        except SeamlessError as error:  # the verdict does not hang on its explanation
            return Explanation(None, [f"not read: {error.message}"])

    async def explain(self) -> list[str]:
        """As it is now, for a deployment whose verdict was not reached here."""
        if self._journal.get("plan") is None or self._journal.get("ours") is None:
            return []
        self._prepared = Prepared.from_json(self._journal.get("plan"))
        self._ours = Ours(**self._journal.get("ours"))
        return (await self._explain(await self._ecs.describe())).lines

    # Back

    async def _record_failure(self, failure: FailureError) -> None:
        await self._journal.record(
            failure={"reason": failure.reason, "explanation": failure.explanation.lines, "by_ecs": failure.by_ecs},
            back_clock=self._timing.read(),
        )

    async def _go_back(self) -> DeployOutcome:
        await self._start("back_clock")
        failure = self._journal.get("failure")
        back = BackOut(self._ecs, self._ours, self._journal, self._log, self._timing, self._read, self._back_left_s)
        event, said = await back.run(self._progress, self._prepared.since, by_ecs=failure["by_ecs"])
        return await self._conclude(event, after(failure["reason"], said), explanation=failure["explanation"])

    def _back_left_s(self) -> float:
        return self._remaining_s("back_clock")

    # What all need

    async def _look(self) -> tuple[Mapping[str, Any], Sight]:
        while True:
            service = await self._read(self._ecs.describe)
            sight = look(service, self._ours, seen=self._seen)
            if sight is not None:
                return service, sight
            await self._timing.pause(self._request.cancel)

    async def _read(self, reading: Callable[[], Awaitable[T]]) -> T:
        """What AWS answers. While it does not, asks again until the deadline; then BlindError."""
        told = False
        clock = "clock" if self._journal.get("failure") is None else "back_clock"
        while True:
            try:
                return await reading()
            except SeamlessError as error:
                if not told:
                    await self._log(f"{error.message}; asking again")
                    told = True
                if self._remaining_s(clock) <= 0:
                    raise BlindError(error.message) from error
            await self._timing.pause()

    async def _start(self, clock: str) -> None:
        """A clock that stopped with a boot of the host begins anew."""
        if self._timing.elapsed_s(self._journal.get(clock)) is None:
            await self._journal.record(**{clock: self._timing.read()})

    def _remaining_s(self, clock: str) -> float:
        return self._request.deadline_s - (self._timing.elapsed_s(self._journal.get(clock)) or 0.0)

    async def _unchanged(self, reason: str | None) -> DeployOutcome:
        return await self._conclude(DeploymentEvent.FAIL, after(reason, "the service was not changed"))

    async def _conclude(self, event: DeploymentEvent, reason: str, **detail: Any) -> DeployOutcome:
        plan, definition = self._journal.get("plan"), self._journal.get("definition")
        if plan is not None and definition is not None:
            detail |= {
                "task_definition": definition,
                "ecs": {"cluster": self._spec.cluster, "service": self._spec.service},
            }
        await self._journal.record(outcome={"event": event, "reason": reason, "detail": detail})
        return DeployOutcome(event, reason, detail)


def _counts(sight: Sight) -> str:
    return sight.mine.counts if sight.mine is not None else "ECS does not list it"
