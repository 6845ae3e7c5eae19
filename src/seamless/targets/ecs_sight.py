"""What one look at an ECS service tells about our deployment: a pure function over DescribeServices.

ECS keeps a list of a service's deployments: one is PRIMARY, others are ACTIVE while their tasks drain. Ours is followed
by its id alone. A rollback by ECS's circuit breaker is a new PRIMARY with an earlier task definition, so a service can
be perfectly stable while our deployment has failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class State(Enum):
    """How our deployment is."""

    UNSEEN = auto()  # not in the answer, and never was: it may not be visible yet
    GOING = auto()
    COMPLETED = auto()
    FAILED = auto()  # ECS gave it up, and nothing takes its place
    ROLLING_BACK = auto()  # ECS puts an earlier task definition in its place
    ROLLED_BACK = auto()  # that is stable
    SUPERSEDED = auto()  # another deployment with another task definition took its place


@dataclass(frozen=True, slots=True)
class Part:
    """One deployment of a service, as ECS answers it."""

    id: str
    primary: bool
    definition: str
    state: str  # rolloutState: "IN_PROGRESS", "COMPLETED", "FAILED"
    reason: str  # rolloutStateReason
    desired: int
    running: int
    pending: int
    failed: int

    @property
    def stable(self) -> bool:
        return self.state == "COMPLETED" and self.running == self.desired

    @property
    def counts(self) -> str:
        """For people: "2 of 3 tasks run, 1 starts, 4 failed"."""
        told = f"{self.running} of {self.desired} tasks run"
        told += f", {self.pending} starting" if self.pending else ""
        return told + (f", {self.failed} failed" if self.failed else "")


@dataclass(frozen=True, slots=True)
class Ours:
    """Our deployment, and what ran before it."""

    id: str
    definition: str
    old_id: str
    old_definition: str


@dataclass(frozen=True, slots=True)
class Sight:
    """`mine` is None when ECS no longer lists it."""

    state: State
    primary: Part
    mine: Part | None


def parts(service: Mapping[str, Any]) -> list[Part]:
    """The deployments of a service, newest first as ECS has them."""
    return [
        Part(
            id=str(each["id"]),
            primary=each["status"] == "PRIMARY",
            definition=str(each["taskDefinition"]),
            state=str(each.get("rolloutState", "")),
            reason=str(each.get("rolloutStateReason") or ""),
            desired=int(each.get("desiredCount", 0)),
            running=int(each.get("runningCount", 0)),
            pending=int(each.get("pendingCount", 0)),
            failed=int(each.get("failedTasks") or 0),
        )
        for each in service["deployments"]
    ]


def primary_of(service: Mapping[str, Any]) -> Part | None:
    return next((part for part in parts(service) if part.primary), None)


def look(service: Mapping[str, Any], ours: Ours, *, seen: bool) -> Sight | None:
    """How our deployment is, as far as this one answer tells. None: the answer lists no PRIMARY at all.

    `seen`: an earlier answer listed it. Answers may be older than those before them: what is final must be read
    several times before it is believed.
    """
    found = parts(service)
    primary = next((part for part in found if part.primary), None)
    if primary is None:
        return None
    mine = next((part for part in found if part.id == ours.id), None)
    return Sight(_state(primary, mine, ours, seen=seen), primary, mine)


def _state(primary: Part, mine: Part | None, ours: Ours, *, seen: bool) -> State:
    if mine is not None and mine.primary:
        if mine.definition != ours.definition:
            return State.SUPERSEDED  # cannot be: an id stands for one definition
        if mine.state == "FAILED":
            return State.FAILED
        return State.COMPLETED if mine.stable else State.GOING
    if mine is None and not seen and primary.id == ours.old_id:
        return State.UNSEEN
    gave_up = mine is not None and mine.state == "FAILED"
    back = primary.definition == ours.old_definition != ours.definition
    if gave_up or back or "rolling back" in primary.reason:
        return State.ROLLED_BACK if primary.stable else State.ROLLING_BACK
    return State.SUPERSEDED
