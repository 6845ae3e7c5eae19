"""Drives one run: asks the plan what is next, carries it out, and stores what came of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from seamless.agent.gate import Gate, Gatekeeper, Order, refusal, why_wait
from seamless.agent.planning import AwaitApproval, CancelIdle, Finish, Skip, Start, Step, Stop, next_steps
from seamless.agent.resources import Resources
from seamless.agent.slots import Slots
from seamless.agent.stage_runner import StageRunner
from seamless.agent.store import DeployLockedError, StaleStateError
from seamless.agent.verdicts import StopSwitch, Verdict
from seamless.clock import started, stopped
from seamless.config import Parameters
from seamless.errors import ProgrammingError, StorageError
from seamless.model import (
    DEPLOY_STAGE,
    STAGE_ENVIRONMENT,
    Approval,
    CancelRequest,
    Environment,
    Image,
    Run,
    Stage,
    StageName,
    Trust,
    short,
    utc_now,
)
from seamless.stages import skip_reason
from seamless.transitions import RUN_ENDED, RunEvent, RunState, StageEvent, StageState


@dataclass(frozen=True, slots=True)
class _Working:
    task: asyncio.Task[Verdict]
    switch: StopSwitch
    stage: Stage


class Driver:
    """One for each run that has not ended. `drive` returns when it has."""

    def __init__(
        self, run: str, resources: Resources, slots: Slots, runner: StageRunner, gatekeeper: Gatekeeper
    ) -> None:
        self._run = run
        self._resources = resources
        self._store = resources.store
        self._slots = slots
        self._runner = runner
        self._gatekeeper = gatekeeper
        self._working: dict[StageName, _Working] = {}
        self._woken = asyncio.Event()
        self._waits: dict[StageName, str] = {}

    @property
    def waits(self) -> Mapping[StageName, str]:
        """What keeps stages that are next from starting, in words."""
        return self._waits

    def wake(self) -> None:
        """Something that concerns this run has been stored by somebody else."""
        self._woken.set()

    async def drive(self) -> Run:
        """Goes on from whatever the store says. Cancelled (the agent stops), it leaves containers running."""
        try:
            run = await self._store.runs.get(self._run)
            self._adopt(run)
            while run.state not in RUN_ENDED:
                self._woken.clear()
                run = await self._expire(run)
                if run.state in RUN_ENDED:
                    break
                progressed = False
                for step in await self._plan(run):
                    progressed |= await self._take(step)
                if not progressed:
                    await self._rest(run)
                await self._collect()
                run = await self._store.runs.get(self._run)
            return run
        finally:
            for working in self._working.values():
                working.task.cancel()
            await asyncio.gather(*(working.task for working in self._working.values()), return_exceptions=True)
            await self._runner.settle(self._run)
            self._slots.release(self._run)

    def _adopt(self, run: Run) -> None:
        """Goes on with the stages that a killed agent left behind."""
        for stage in run.stages:
            if stage.state is StageState.IN_PROGRESS:
                self._slots.adopt(run.id, run.service)
                self._begin(run, stage, resumed=True)

    async def _plan(self, run: Run) -> list[Step]:
        production = run.stage(StageName.DEPLOY_PRODUCTION)
        approval_needed = False
        if production is not None and production.state is StageState.IDLE and _only_left(run, production):
            gate = await self._gatekeeper.look(run)
            refused = refusal(run, gate)
            if refused is not None and run.cancel is None:
                run = await self._supersede(run, refused)
            auto_deploy = Parameters.model_validate(run.parameters).auto_deploy
            approval_needed = why_wait(run, gate, auto_deploy=auto_deploy) is not None
        return next_steps(run, approval_needed=approval_needed)

    async def _supersede(self, run: Run, why: str) -> Run:
        await self._store.runs.request_cancel(run, CancelRequest(RunEvent.SUPERSEDE, why, "agent"))
        return await self._store.runs.get(run.id)

    # -- steps

    async def _take(self, step: Step) -> bool:
        """Carries out one step; False when there is nothing to do but wait."""
        run = await self._store.runs.get(self._run)
        match step:
            case Start(name):
                return await self._start(run, name)
            case Skip(name, reason):
                await self._store.runs.transition_stage(run, _stage(run, name), StageEvent.SKIP, reason=reason)
            case CancelIdle(name, reason):
                await self._store.runs.transition_stage(run, _stage(run, name), StageEvent.CANCEL, reason=reason)
            case Stop(name, reason):
                working = self._working.get(name)
                if working is None or working.switch.reason is not None:
                    return False
                working.switch.stop(reason)
            case AwaitApproval():
                await self._await_approval(run)
            case Finish(event, reason):
                await self._finish(run, event, reason)
        return True

    async def _start(self, run: Run, name: StageName) -> bool:
        stage = _stage(run, name)
        parameters = Parameters.model_validate(run.parameters)
        nothing_to_do = skip_reason(name, parameters)
        if nothing_to_do is not None:
            async with self._store.transaction():
                await self._store.runs.transition_stage(run, stage, StageEvent.SKIP, reason=nothing_to_do)
                await self._passed(run, name)
            return True
        environment = STAGE_ENVIRONMENT.get(name)
        if environment is None and (short_of := self._resources.room.shortage()) is not None:
            return await self._wait(run, name, f"room: {short_of}")  # the engine wakes us when there is some
        if environment is not None:
            refused = await self._refused(run, environment)
            if refused is not None:
                await self._supersede(run, refused)
                return True
            other = await self._store.deployments.locked(run.service, environment)
            if other is not None:  # the engine wakes us when that deployment has ended
                return await self._wait(run, name, f"{other.run}, which deploys to {environment}")
        if not await self._occupy(run, name):
            return True
        async with self._store.transaction():
            run = await self._store.runs.get(run.id)
            if run.state is RunState.IDLE:
                run = await self._store.runs.transition(run, RunEvent.START)
            if run.clock is None or run.clock.running_since is None:
                await self._store.runs.set_clock(run.id, started(run.clock))
            if environment is not None:
                try:
                    await self._store.deployments.record(run, environment, await self._image(run))
                except DeployLockedError:
                    return False
            stage = await self._store.runs.transition_stage(run, _stage(run, name), StageEvent.START)
            await self._store.runs.set_stage_clock(run.id, name, started(None))
        self._waits.pop(name, None)
        self._begin(await self._store.runs.get(run.id), stage, resumed=False)
        return True

    async def _wait(self, run: Run, stage: StageName, what: str) -> bool:
        """Tells once what keeps a stage from starting. False: there is nothing to do but wait."""
        if self._waits.get(stage) != what:
            self._waits[stage] = what
            with contextlib.suppress(StorageError):  # a comfort, of which nothing that works may fail
                await self._store.events.add("wait", "wait", service=run.service, run=run.id, stage=stage, reason=what)
        return False

    async def _occupy(self, run: Run, stage: StageName) -> bool:
        """Waits for a slot; False when the run was woken meanwhile and must be looked at again."""
        if self._slots.holds(run.id):
            return True
        turn = asyncio.ensure_future(self._slots.acquire(run.id, run.service))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            if not (await asyncio.wait({turn, woken}, timeout=0))[0]:
                await self._wait(run, stage, f"a slot (agent.max_parallel_runs is {self._slots.limit})")
            await asyncio.wait({turn, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            if not turn.done():
                turn.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await turn
        return self._slots.holds(run.id)

    async def _refused(self, run: Run, environment: Environment) -> str | None:
        """Why the environment does not take this run any more, checked before its deploy stage starts."""
        if environment is Environment.STAGING:
            return await self._gatekeeper.refused_by_staging(run)
        gate = await self._gatekeeper.look(run)
        if gate.order is Order.REWRITTEN and not _may_rewrite(run) and gate.production is not None:
            return f"production runs {short(gate.production)}, which is not in the history of {short(run.commit)}"
        return refusal(run, gate)

    async def _image(self, run: Run) -> Image:
        """What this run deploys: the image it built or was asked to deploy."""
        build = run.stage(StageName.BUILD)
        identity = run.options.image if build is None else build.detail.get("image")
        image = None if identity is None else await self._store.images.get(identity)
        if image is None:
            raise ProgrammingError(f"{run.id} has no image to deploy")
        return image

    def _begin(self, run: Run, stage: Stage, *, resumed: bool) -> None:
        switch = StopSwitch()
        task = asyncio.create_task(
            self._runner.execute(run, stage, switch, resumed=resumed), name=f"{run.id} {stage.name}"
        )
        self._working[stage.name] = _Working(task, switch, stage)

    async def _await_approval(self, run: Run) -> None:
        parameters = Parameters.model_validate(run.parameters)
        if run.options.gated:
            why = f"{short(run.commit)} comes from a fork"
            approval = Approval(why, utc_now() + timedelta(seconds=parameters.approval_timeout), production=None)
        else:
            gate = await self._gatekeeper.look(run)
            needed = why_wait(run, gate, auto_deploy=parameters.auto_deploy)
            if needed is None:
                return
            why, approval = needed, _approval(gate, needed, parameters.approval_timeout)
        async with self._store.transaction():
            await self._store.runs.set_approval(run.id, approval)
            await self._store.runs.set_clock(run.id, stopped(run.clock))
            await self._store.runs.transition(run, RunEvent.AWAIT_APPROVAL, reason=why)
        self._slots.release(run.id)

    async def _finish(self, run: Run, event: RunEvent, reason: str | None) -> None:
        async with self._store.transaction():
            await self._store.runs.set_clock(run.id, stopped(run.clock))
            actor = "agent" if run.cancel is None else run.cancel.by
            await self._store.runs.transition(run, event, reason=reason, actor=actor)

    # -- waiting

    async def _rest(self, run: Run) -> None:
        """Until a stage has its verdict, somebody wakes us, or a deadline comes."""
        if not self._working:
            if run.state is RunState.IN_PROGRESS and self._slots.holds(run.id):
                await self._store.runs.set_clock(run.id, stopped(run.clock))
            self._slots.release(run.id)
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait(
                {woken, *(working.task for working in self._working.values())},
                timeout=_until_expiry_s(run),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            woken.cancel()

    async def _collect(self) -> None:
        """Stores the verdicts of the stages that have one."""
        for name, working in list(self._working.items()):
            if working.task.done():
                del self._working[name]
                await self._apply(working.stage, working.task.result())

    async def _apply(self, stage: Stage, verdict: Verdict) -> None:
        async with self._store.transaction():
            run = await self._store.runs.get(self._run)
            await self._store.runs.transition_stage(
                run,
                _stage(run, stage.name),
                verdict.event,
                reason=verdict.reason,
                exit_code=0 if verdict.event is StageEvent.SUCCEED else verdict.exit_code,
                detail=verdict.detail,
            )
            if verdict.also is not None:
                await verdict.also()
            if verdict.event is StageEvent.SUCCEED:
                await self._passed(run, stage.name)

    async def _passed(self, run: Run, name: StageName) -> None:
        """What follows, in the same transaction, from a stage that succeeded or had nothing to do."""
        if name is StageName.INTEGRATION_TEST and run.trust is Trust.TRUSTED:
            await self._store.images.pass_checks((await self._image(run)).id)
        last = run.stage(StageName.DEPLOY_STAGING) or run.stage(StageName.INTEGRATION_TEST)
        goes_on = run.stage(DEPLOY_STAGE[Environment.PRODUCTION]) is not None
        if goes_on and last is not None and name is last.name:
            await self._store.void_waiting(run, f"{run.id} has passed {name} since", older_than=run.number)
        if name is StageName.DEPLOY_PRODUCTION:
            await self._store.void_waiting(run, f"production changed: {run.id} was deployed")

    async def _expire(self, run: Run) -> Run:
        """Ends a run whose approval nobody gave in time; a word that came in the same moment counts."""
        if _until_expiry_s(run) != 0.0:
            return run
        try:
            why = "nobody approved it in time"
            return await self._store.end_waiting(run, RunEvent.EXPIRE, reason=why, actor="agent")
        except StaleStateError:
            return await self._store.runs.get(run.id)


def _stage(run: Run, name: StageName) -> Stage:
    stage = run.stage(name)
    assert stage is not None, f"{run.id} has no stage {name}"
    return stage


def _only_left(run: Run, stage: Stage) -> bool:
    return all(
        other.state in (StageState.SUCCESS, StageState.SKIPPED) for other in run.stages if other.name != stage.name
    )


def _may_rewrite(run: Run) -> bool:
    return run.options.allow_rewritten or (run.approval is not None and run.approval.allow_rewritten)


def _approval(gate: Gate, why: str, timeout_s: float) -> Approval:
    return Approval(
        why=why,
        expires_at=utc_now() + timedelta(seconds=timeout_s),
        production=gate.production_digest,
        rewritten=gate.order is Order.REWRITTEN,
    )


def _until_expiry_s(run: Run) -> float | None:
    """Seconds until the approval that the run waits for expires; None when it waits for none."""
    if run.state is not RunState.AWAITING_APPROVAL:
        return None
    assert run.approval is not None
    return max(0.0, (run.approval.expires_at - utc_now()).total_seconds())
