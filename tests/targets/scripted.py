"""A `Target` whose verdicts are written down beforehand, for tests of what stands above targets. It is a fake:
tests that use it are marked so.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seamless.errors import UnavailableError
from seamless.model import Deployment, Environment, ImageRef, short, utc_now
from seamless.targets import DeployOutcome, DeployRequest, Journal, Log, Release
from seamless.transitions import DeploymentEvent

Place = tuple[str, Environment]


@dataclass
class ScriptedTarget:
    """Every deployment succeeds unless `outcomes` of its service and environment says otherwise (first in, first
    out). An instance is the far end: hand the same one to a restarted agent.
    """

    outcomes: defaultdict[Place, deque[DeployOutcome]] = field(default_factory=lambda: defaultdict(deque))
    releases: dict[Place, Release] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # digests that are no longer to be had
    unreachable: bool = False
    effects: list[int] = field(default_factory=list)  # ids of deployments, once for each time they were carried out
    requests: list[DeployRequest] = field(default_factory=list)  # one for each call of `deploy`
    gate: asyncio.Event | None = None  # while it is not set, deployments wait before their verdict

    async def current(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> Release | None:
        self._reach()
        return self.releases.get((service, environment))

    async def has_image(self, image: ImageRef) -> bool:
        self._reach()
        return image.digest not in self.gone

    async def deploy(self, request: DeployRequest, journal: Journal, log: Log) -> DeployOutcome:
        self.requests.append(request)
        place = (request.service, request.environment)
        if recorded := journal.get("outcome"):
            return DeployOutcome(DeploymentEvent(recorded["event"]), recorded["reason"], recorded["detail"])
        if not journal.get("submitted"):
            if request.deployment not in self.effects:  # the agent may have died before the record
                self.effects.append(request.deployment)
            await journal.record(submitted=True)
        await log(f"deploying {short(request.commit)} to {request.environment}")
        await self._wait(request.cancel)
        outcome = self._verdict(request)
        if outcome.event is DeploymentEvent.COMPLETE:
            self.releases[place] = Release(request.image, request.commit, request.deployment, True, utc_now())
        await journal.record(outcome={"event": outcome.event, "reason": outcome.reason, "detail": dict(outcome.detail)})
        return outcome

    async def retire(self, journal: Journal) -> None:
        self._reach()

    async def explain(self, request: DeployRequest, journal: Journal) -> list[str]:
        return [f"scripted deployment {request.deployment}"]

    async def difference(self, request: DeployRequest) -> list[str]:
        return []

    async def drift(self, current: Sequence[tuple[Deployment, Mapping[str, Any]]]) -> list[str | None]:
        return [None for _ in current]

    async def reconcile(self, deployment: Deployment, settings: Mapping[str, Any]) -> DeployOutcome:
        self._reach()
        release = self.releases.get((deployment.service, deployment.environment))
        arrived = release is not None and release.deployment == deployment.id
        return DeployOutcome(DeploymentEvent.COMPLETE if arrived else DeploymentEvent.FAIL)

    async def remove(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> None:
        self._reach()
        self.releases.pop((service, environment), None)

    def _verdict(self, request: DeployRequest) -> DeployOutcome:
        before = self.releases.get((request.service, request.environment))
        if request.cancel.is_set():
            if before is None:
                return DeployOutcome(DeploymentEvent.FAIL, "there is nothing to go back to")
            return DeployOutcome(DeploymentEvent.ROLL_BACK, f"rolled back to {short(before.commit or '?')}")
        script = self.outcomes[request.service, request.environment]
        return script.popleft() if script else DeployOutcome(DeploymentEvent.COMPLETE, "healthy after 0.0 s")

    async def _wait(self, cancel: asyncio.Event) -> None:
        if self.gate is None:
            return
        waiting = [asyncio.create_task(self.gate.wait()), asyncio.create_task(cancel.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _reach(self) -> None:
        if self.unreachable:
            raise UnavailableError("the scripted target does not answer")
