"""The rows of a scripted ECS's tables: what becomes of a deployment, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

What = Literal["going", "completed", "failed", "rollback", "rolled_back", "outside", "vanished", "unstable"]


@dataclass(frozen=True)
class Stopped:
    """A task that ended."""

    reason: str
    code: str = "EssentialContainerExited"
    exit_code: int | None = None
    container_reason: str | None = None
    lines: tuple[str, ...] = ()  # of its log


@dataclass(frozen=True)
class Row:
    """From `at` on it is so: `running` of the wanted tasks, `failed` so far."""

    at: float
    what: What
    running: int = 0
    failed: int = 0
    reason: str = ""
    event: str | None = None
    task: Stopped | None = None
    alarms: tuple[str, ...] = ()  # deployment alarms that went off


HEALTHY: Final = (
    Row(0, "going", event="(service web) has started 2 tasks"),
    Row(20, "going", running=1),
    Row(40, "completed", running=2, event="(service web) has reached a steady state."),
)
BACK: Final = (Row(0, "going"), Row(10, "completed", running=2))
NEVER: Final = (Row(0, "going"),)
