"""How an attempt of a stage ends, and how it is told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from seamless.transitions import StageEvent


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the table is asked to apply, and what is stored in the same transaction."""

    event: StageEvent
    reason: str | None = None
    exit_code: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    also: Callable[[], Awaitable[None]] | None = None


@dataclass
class StopSwitch:
    """How the driver tells a running stage to end. Without a reason, a cancelled task means that the agent stops."""

    reason: str | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, reason: str) -> None:
        self.reason = reason
        self.asked.set()
