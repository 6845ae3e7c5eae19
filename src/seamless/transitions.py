"""The transition table: the only place that says which state follows which.

`docs/states.md` is generated from it. The store applies a transition by compare-and-set, in the
database transaction that records the event.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from seamless.errors import ProgrammingError


class RunState(StrEnum):
    IDLE = "idle"  # stored, waiting for a slot
    IN_PROGRESS = "in_progress"
    AWAITING_APPROVAL = "awaiting_approval"  # holds no slot; no run timeout ticks
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"


class RunEvent(StrEnum):
    START = "start"
    AWAIT_APPROVAL = "await_approval"
    APPROVE = "approve"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"  # a newer run or what is deployed makes it pointless
    REJECT = "reject"
    EXPIRE = "expire"
    VOID = "void"  # what was to be approved is no longer what would be deployed


class StageState(StrEnum):
    IDLE = "idle"
    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILURE = "failure"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class StageEvent(StrEnum):
    START = "start"
    SKIP = "skip"
    REUSE = "reuse"  # kept from the run that this one repeats
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    RETRY = "retry"  # failed, and max_attempts allows another attempt
    INTERRUPT = "interrupt"  # its work was lost without a verdict
    GIVE_UP = "give_up"  # interrupted max_interruptions times


class DeploymentState(StrEnum):
    RECORDED = "recorded"  # nothing has been asked of the target yet
    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILURE = "failure"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"  # the target could not be read; the next deploy reconciles first


class DeploymentEvent(StrEnum):
    SUBMIT = "submit"
    ABANDON = "abandon"
    COMPLETE = "complete"
    FAIL = "fail"
    ROLL_BACK = "roll_back"
    SUPERSEDE = "supersede"
    LOSE_SIGHT = "lose_sight"


RUN_TRANSITIONS: Final[dict[tuple[RunState, RunEvent], RunState]] = {
    (RunState.IDLE, RunEvent.START): RunState.IN_PROGRESS,
    (RunState.IDLE, RunEvent.AWAIT_APPROVAL): RunState.AWAITING_APPROVAL,
    (RunState.IDLE, RunEvent.CANCEL): RunState.CANCELLED,
    (RunState.IDLE, RunEvent.SUPERSEDE): RunState.CANCELLED,
    (RunState.IN_PROGRESS, RunEvent.AWAIT_APPROVAL): RunState.AWAITING_APPROVAL,
    (RunState.IN_PROGRESS, RunEvent.SUCCEED): RunState.SUCCESS,
    (RunState.IN_PROGRESS, RunEvent.FAIL): RunState.FAILURE,
    (RunState.IN_PROGRESS, RunEvent.CANCEL): RunState.CANCELLED,
    (RunState.IN_PROGRESS, RunEvent.SUPERSEDE): RunState.CANCELLED,
    (RunState.AWAITING_APPROVAL, RunEvent.APPROVE): RunState.IN_PROGRESS,
    (RunState.AWAITING_APPROVAL, RunEvent.REJECT): RunState.CANCELLED,
    (RunState.AWAITING_APPROVAL, RunEvent.EXPIRE): RunState.CANCELLED,
    (RunState.AWAITING_APPROVAL, RunEvent.VOID): RunState.CANCELLED,
    (RunState.AWAITING_APPROVAL, RunEvent.CANCEL): RunState.CANCELLED,
    (RunState.AWAITING_APPROVAL, RunEvent.SUPERSEDE): RunState.CANCELLED,
}

STAGE_TRANSITIONS: Final[dict[tuple[StageState, StageEvent], StageState]] = {
    (StageState.IDLE, StageEvent.START): StageState.IN_PROGRESS,
    (StageState.IDLE, StageEvent.SKIP): StageState.SKIPPED,
    (StageState.IDLE, StageEvent.CANCEL): StageState.CANCELLED,
    (StageState.IDLE, StageEvent.REUSE): StageState.SUCCESS,
    (StageState.IN_PROGRESS, StageEvent.SUCCEED): StageState.SUCCESS,
    (StageState.IN_PROGRESS, StageEvent.FAIL): StageState.FAILURE,
    (StageState.IN_PROGRESS, StageEvent.CANCEL): StageState.CANCELLED,
    (StageState.IN_PROGRESS, StageEvent.RETRY): StageState.IDLE,
    (StageState.IN_PROGRESS, StageEvent.INTERRUPT): StageState.IDLE,
    (StageState.IN_PROGRESS, StageEvent.GIVE_UP): StageState.FAILURE,
}

DEPLOYMENT_TRANSITIONS: Final[dict[tuple[DeploymentState, DeploymentEvent], DeploymentState]] = {
    (DeploymentState.RECORDED, DeploymentEvent.SUBMIT): DeploymentState.IN_PROGRESS,
    (DeploymentState.RECORDED, DeploymentEvent.ABANDON): DeploymentState.FAILURE,
    (DeploymentState.IN_PROGRESS, DeploymentEvent.COMPLETE): DeploymentState.SUCCESS,
    (DeploymentState.IN_PROGRESS, DeploymentEvent.FAIL): DeploymentState.FAILURE,
    (DeploymentState.IN_PROGRESS, DeploymentEvent.ROLL_BACK): DeploymentState.ROLLED_BACK,
    (DeploymentState.IN_PROGRESS, DeploymentEvent.SUPERSEDE): DeploymentState.SUPERSEDED,
    (DeploymentState.IN_PROGRESS, DeploymentEvent.LOSE_SIGHT): DeploymentState.UNKNOWN,
    (DeploymentState.UNKNOWN, DeploymentEvent.COMPLETE): DeploymentState.SUCCESS,
    (DeploymentState.UNKNOWN, DeploymentEvent.FAIL): DeploymentState.FAILURE,
    (DeploymentState.UNKNOWN, DeploymentEvent.ROLL_BACK): DeploymentState.ROLLED_BACK,
    (DeploymentState.UNKNOWN, DeploymentEvent.SUPERSEDE): DeploymentState.SUPERSEDED,
}

RUN_ENDED: Final = frozenset({RunState.SUCCESS, RunState.FAILURE, RunState.CANCELLED})
STAGE_ENDED: Final = frozenset({StageState.SUCCESS, StageState.FAILURE, StageState.SKIPPED, StageState.CANCELLED})
DEPLOYMENT_LOCKS: Final = frozenset({DeploymentState.RECORDED, DeploymentState.IN_PROGRESS})


class UnknownTransitionError(ProgrammingError):
    """The table has no row for this state and event."""


def next_run_state(state: RunState, event: RunEvent) -> RunState:
    """The state after `event`; raises UnknownTransitionError, naming both, where the table has none."""
    try:
        return RUN_TRANSITIONS[state, event]
    except KeyError:
        raise UnknownTransitionError(f"a run that is {state} cannot take the event {event}") from None


def next_stage_state(state: StageState, event: StageEvent) -> StageState:
    """As `next_run_state`, for a stage."""
    try:
        return STAGE_TRANSITIONS[state, event]
    except KeyError:
        raise UnknownTransitionError(f"a stage that is {state} cannot take the event {event}") from None


def next_deployment_state(state: DeploymentState, event: DeploymentEvent) -> DeploymentState:
    """As `next_run_state`, for a deployment."""
    try:
        return DEPLOYMENT_TRANSITIONS[state, event]
    except KeyError:
        raise UnknownTransitionError(f"a deployment that is {state} cannot take the event {event}") from None


def after_failure(attempt: int, max_attempts: int) -> StageEvent:
    """RETRY while another attempt is allowed, else FAIL. `attempt` counts from 1, the one that just failed."""
    return StageEvent.RETRY if attempt < max_attempts else StageEvent.FAIL


def after_interruption(interruptions: int, max_interruptions: int) -> StageEvent:
    """INTERRUPT while it may be tried again, else GIVE_UP. `interruptions` includes the one at hand."""
    return StageEvent.INTERRUPT if interruptions < max_interruptions else StageEvent.GIVE_UP
