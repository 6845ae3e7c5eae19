"""What a run consists of, and what it does next: pure functions over the stored state.

The driver asks `next_steps` after everything that happens and carries out what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from seamless.model import NEEDS, Run, RunOptions, Stage, StageName, Trigger, Trust
from seamless.transitions import RunEvent, RunState, StageState

CHECKS: Final = (StageName.PREPARE, StageName.CODE_QUALITY, StageName.UNIT_TEST)
_TO_INTEGRATION: Final = (*CHECKS, StageName.BUILD, StageName.INTEGRATION_TEST)
_FINISHED: Final = frozenset({StageState.SUCCESS, StageState.SKIPPED})


@dataclass(frozen=True, slots=True)
class Start:
    stage: StageName


@dataclass(frozen=True, slots=True)
class Skip:
    stage: StageName
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a stage that runs: its result can no longer matter."""

    stage: StageName
    reason: str


@dataclass(frozen=True, slots=True)
class CancelIdle:
    """A stage that has not started, in a run that is cancelled."""

    stage: StageName
    reason: str


@dataclass(frozen=True, slots=True)
class AwaitApproval:
    """Production is next, or a stranger's code is, and needs someone's word."""


@dataclass(frozen=True, slots=True)
class Finish:
    event: RunEvent
    reason: str | None


Step = Start | Skip | Stop | CancelIdle | AwaitApproval | Finish


def stages_of(
    trigger: Trigger,
    options: RunOptions,
    *,
    use_staging: bool,
    pull_request_stages: Sequence[StageName] = (),
) -> tuple[StageName, ...]:
    """The stages of a run, in pipeline order."""
    deploys = (StageName.DEPLOY_STAGING,) if use_staging else ()
    match trigger:
        case Trigger.ROLLBACK:
            return (StageName(f"deploy_{options.environment}"),)
        case Trigger.PROMOTE:
            return (StageName.DEPLOY_PRODUCTION,)
        case _ if options.checks or options.local or options.fork:
            return CHECKS
        case Trigger.PR_OPEN | Trigger.PR_SYNC:
            return tuple(stage for stage in StageName if stage in CHECKS or stage in pull_request_stages)
        case Trigger.MANUAL if not options.on_branch:
            return (*_TO_INTEGRATION, *(deploys if options.staging else ()))
        case _:
            return (*_TO_INTEGRATION, *deploys, StageName.DEPLOY_PRODUCTION)


def trust_of(trigger: Trigger, options: RunOptions) -> Trust:
    """DESIGN's table: what the source of the code may see."""
    if options.fork or options.local:
        return Trust.UNTRUSTED
    match trigger:
        case Trigger.PR_OPEN | Trigger.PR_SYNC:
            return Trust.REPOSITORY
        case Trigger.MANUAL:
            return Trust.TRUSTED if options.on_branch else Trust.REPOSITORY
        case _:
            return Trust.TRUSTED


def downstream_of(stage: StageName) -> frozenset[StageName]:
    """The stage itself and all that need it, directly or not."""
    found = {stage}
    for name in StageName:
        if found.intersection(NEEDS[name]):
            found.add(name)
    return frozenset(found)


def next_steps(run: Run, *, approval_needed: bool) -> list[Step]:
    """What to do now. Nothing, while all there is to do is wait for what is running."""
    if run.cancel is not None:
        return _cancelling(run)
    if run.options.gated and (run.approval is None or run.approval.by is None):
        return [] if run.state is RunState.AWAITING_APPROVAL else [AwaitApproval()]
    stages = {stage.name: stage for stage in run.stages}
    failed = next((stage for stage in run.stages if stage.state is StageState.FAILURE), None)
    if failed is not None:
        return _failing(run, failed)
    running = any(stage.state is StageState.IN_PROGRESS for stage in run.stages)
    ready = [
        stage.name
        for stage in run.stages
        if stage.state is StageState.IDLE
        and all(stages[need].state in _FINISHED for need in NEEDS[stage.name] if need in stages)
    ]
    if StageName.DEPLOY_PRODUCTION in ready and approval_needed:
        return [] if run.state is RunState.AWAITING_APPROVAL else [AwaitApproval()]
    if ready:
        return [Start(name) for name in ready]
    return [] if running else [Finish(RunEvent.SUCCEED, None)]


def _failing(run: Run, failed: Stage) -> list[Step]:
    """Both checks run to their end, so that one run tells everything that is wrong; the rest does not go on."""
    cause = f"{failed.name} failed"
    steps: list[Step] = []
    running = False
    for stage in run.stages:
        if stage.state is StageState.IN_PROGRESS:
            running = True
            if stage.name is StageName.BUILD:
                steps.append(Stop(stage.name, cause))
        elif stage.state is StageState.IDLE:
            if stage.name in CHECKS and failed.name is not StageName.PREPARE:
                running = True
                steps.append(Start(stage.name))
            else:
                steps.append(Skip(stage.name, cause))
    if not running:
        failures = [f"{stage.name}: {stage.reason}" for stage in run.stages if stage.state is StageState.FAILURE]
        steps.append(Finish(RunEvent.FAIL, "; ".join(failures)))
    return steps


def _cancelling(run: Run) -> list[Step]:
    assert run.cancel is not None
    why = run.cancel.why
    running = [stage.name for stage in run.stages if stage.state is StageState.IN_PROGRESS]
    idle = [stage.name for stage in run.stages if stage.state is StageState.IDLE]
    steps: list[Step] = [CancelIdle(name, why) for name in idle]
    if running:
        return steps + [Stop(name, why) for name in running]
    return [*steps, Finish(run.cancel.event, why)]
