"""Where services are deployed: the interface of a deploy target.

One deployment is one call of `deploy`, which returns only with the truth (or with UNKNOWN when the
far end cannot be read). Its identity is `request.deployment`; what it has done so far is in its
journal, which the agent stores. After the agent was killed it calls `deploy` again with the same
request and the stored journal, and the target goes on from the recorded step: no step is made twice.
The agent guarantees that at most one `deploy` runs for a service and environment.

Cancellation: the agent sets `request.cancel` (an asyncio.Event). The target then stops, rolls back,
follows that to its end, and returns ROLL_BACK or FAIL, with what became of it as the reason: who
cancelled it and why, the agent knows. The task itself is cancelled only when the agent stops; the
target must leave everything as it is then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from seamless.model import Deployment, Environment, ImageRef
from seamless.transitions import DeploymentEvent


@dataclass(frozen=True, slots=True)
class Release:
    """What an environment runs for one service."""

    image: ImageRef
    commit: str | None
    deployment: int | None  # the id of the deployment of ours that put it there, None when it was not us
    healthy: bool
    since: datetime | None
    address: str | None = None  # how a person on this host reaches it, e.g. "http://127.0.0.1:8080"


class Journal(Protocol):
    """The deployment's durable memory: `get` what was recorded, `record` before going on."""

    def get(self, key: str) -> Any: ...

    async def record(self, **entries: Any) -> None:
        """Durable when it returns. The values are JSON."""


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """Everything that one deployment needs. `env` holds resolved secrets too: never log or store it."""

    deployment: int
    run: str
    service: str
    environment: Environment
    commit: str
    image: ImageRef
    settings: Mapping[str, Any]  # the environment's and the service's own for that target: `agent.environments`
    port: int | None  # what the container listens on
    publish: int | None  # port of the host, None: reachable by its name in the environment only
    health: str  # path; "" = the container runs and stays up
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)  # "cpus", "memory" (bytes), "pids"
    recorded: Mapping[str, Any] = field(default_factory=dict)  # of a rollback: `detail` of when this image was there
    deadline_s: float = 600.0  # for reaching a verdict, rollback not included
    cancel: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class DeployOutcome:
    """The verdict. `event` is COMPLETE, FAIL, ROLL_BACK, SUPERSEDE or LOSE_SIGHT."""

    event: DeploymentEvent
    reason: str | None = None  # one line; for COMPLETE e.g. "healthy after 1.2 s, gap 0.3 s"
    detail: Mapping[str, Any] = field(default_factory=dict)  # "address", "gap_s", "explanation": [lines], "unproven"


def after(reason: str | None, said: str) -> str:
    """Why a deployment failed and what became of it, in one line; only that when it was cancelled (`reason` None)."""
    return said if reason is None else f"{reason}; {said}"


Log = Callable[[str], Awaitable[None]]  # appends one line to the stage's log


class Target(Protocol):
    """A kind of environment. All methods raise UnavailableError when the far end does not answer."""

    async def current(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> Release | None:
        """What runs there now, read from the far end, not remembered."""

    async def has_image(self, image: ImageRef) -> bool:
        """Whether the image could be deployed now."""

    async def deploy(self, request: DeployRequest, journal: Journal, log: Log) -> DeployOutcome: ...

    async def difference(self, request: DeployRequest) -> list[str]:
        """What `deploy` would change beside the image's own content, a line each. Changes nothing."""

    async def drift(self, current: Sequence[tuple[Deployment, Mapping[str, Any]]]) -> list[str | None]:
        """Of deployments that succeeded last, each with its settings, all of one place: what runs there instead, and
        who put it there; None where it still runs."""

    async def reconcile(self, deployment: Deployment, settings: Mapping[str, Any]) -> DeployOutcome:
        """What became of a deployment that was lost sight of, from its journal and from what is there now."""

    async def retire(self, journal: Journal) -> None:
        """After a COMPLETE verdict was stored: ends what the release replaced and left for afterwards, if anything.
        May be cancelled and repeated; the next deployment does without it."""

    async def explain(self, request: DeployRequest, journal: Journal) -> list[str]:
        """Why it is as it is: exit codes, out of memory, last lines. For people; never raises for missing parts."""

    async def remove(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> None:
        """Takes the service out of the environment (used by `demo --down` and tests)."""
