"""What a run would do, and whether an environment still runs what was put there: read only."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from seamless.agent.access import Role
from seamless.agent.deploying import request_of
from seamless.agent.environments import settings_of
from seamless.agent.operations import Operations
from seamless.agent.planning import stages_of
from seamless.agent.resources import Resources
from seamless.agent.triggers import branch_of
from seamless.agent.workspaces import repository_of
from seamless.config import Config, Parameters, Place
from seamless.errors import SeamlessError
from seamless.model import (
    STAGE_ENVIRONMENT,
    Actor,
    Deployment,
    DigestKind,
    Environment,
    Image,
    ImageRef,
    RunOptions,
    Trigger,
    utc_now,
)
from seamless.stages import skip_reason
from seamless.transitions import DeploymentState
from seamless.wire_plans import PlanJSON, PlannedDeployJSON

_FRESH_S: Final = 30.0
_PATIENCE_S: Final = 5.0  # for an answer that a person waits for
_TO_BE_BUILT: Final = "(the image that build makes)"


class Drift:
    """Whether environments run what Seamless deployed there last; asked of the far end twice a minute at most."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: dict[int, tuple[float, str | None]] = {}  # by deployment

    async def of(self, current: Iterable[Deployment]) -> dict[int, str | None]:
        """Of deployments that succeeded last, by id: what runs there instead, and who put it there; why that cannot be
        read; or None. Each place (a cluster in its account) is asked once for all that is there, all of them at once.
        """
        config = self._resources.config()
        now = time.monotonic()
        self._known = {one: known for one, known in self._known.items() if now - known[0] < _FRESH_S}
        asked: defaultdict[tuple[str, Place], list[Deployment]] = defaultdict(list)
        settled = []  # while a service is being deployed, that changes anyway
        for deployment in current:
            service, environment = deployment.service, deployment.environment
            if await self._resources.store.deployments.locked(service, environment) is None:
                settled.append(deployment.id)
                if deployment.id not in self._known:
                    place = config.place_of(environment, config.services[service])
                    asked[config.environments[environment].target, place].append(deployment)
        await asyncio.gather(*(self._ask(config, target, deployments) for (target, _), deployments in asked.items()))
        return {one: self._known[one][1] for one in settled if one in self._known}

    async def _ask(self, config: Config, target: str, deployments: list[Deployment]) -> None:
        current = [(one, settings_of(config, config.services[one.service], one.environment)) for one in deployments]
        found: Sequence[str | None]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await self._resources.targets[target].drift(current)
        except SeamlessError as error:
            found = [f"cannot be read: {error.message}"] * len(current)
        except TimeoutError:
            found = [f"cannot be read: no answer within {_PATIENCE_S:g} s"] * len(current)
        now = time.monotonic()
        self._known |= {one.id: (now, told) for one, told in zip(deployments, found, strict=True)}


class Foresight:
    def __init__(self, resources: Resources, operations: Operations) -> None:
        self._resources = resources
        self._operations = operations
        self.drift = Drift(resources)

    async def plan(self, actor: Actor, service: str, ref: str | None, options: RunOptions) -> PlanJSON:
        """What a manual run of that ref would do. Starts nothing, and fetches nothing but the commit's description."""
        self._operations.require(actor, Role.OPERATOR, f"run {service}")
        parameters = self._operations.parameters_of(service)
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        resolved = await self._resources.forge.resolve(repository, ref or branch_of(parameters))
        options = dataclasses.replace(options, on_branch=resolved.ref == branch_of(parameters))
        stages = stages_of(Trigger.MANUAL, options, use_staging=parameters.use_staging)
        known = None if options.rebuild else await self._image(service, resolved.commit)
        environments = [STAGE_ENVIRONMENT[name] for name in stages if name in STAGE_ENVIRONMENT]
        return {
            "service": service,
            "commit": resolved.commit,
            "ref": resolved.ref,
            "stages": [{"name": name, "skipped": skip_reason(name, parameters)} for name in stages],
            "image": None if known is None else known.ref.pullable,
            "deploys": [
                await self._deploy(service, environment, parameters, resolved.commit, known)
                for environment in environments
            ],
            "approval": Environment.PRODUCTION in environments and not parameters.auto_deploy,
        }

    async def _image(self, service: str, commit: str) -> Image | None:
        found = await self._resources.store.images.by_commit(commit, service)
        return next((image for image in found if image.trusted and image.gone_at is None), None)

    async def _deploy(
        self, service: str, environment: Environment, parameters: Parameters, commit: str, image: Image | None
    ) -> PlannedDeployJSON:
        lines, problem = await self.difference(service, environment, parameters, commit, image)
        return {
            "environment": environment,
            "target": self._resources.config().environments[environment].target,
            "difference": lines,
            "problem": problem,
        }

    async def difference(
        self, service: str, environment: Environment, parameters: Parameters, commit: str, image: Image | None
    ) -> tuple[list[str], str | None]:
        """What a deployment would change there beside the image's content, or why that cannot be told."""
        config = self._resources.config()
        target = self._resources.targets[config.environments[environment].target]
        repository = service if image is None else image.ref.repository
        ref = image.ref if image is not None else ImageRef(_TO_BE_BUILT, DigestKind.MANIFEST, repository)
        deployment = Deployment(
            id=0,
            service=service,
            environment=environment,
            run="",
            trigger=Trigger.MANUAL,
            commit=commit,
            image=ref,
            state=DeploymentState.RECORDED,
            reason=None,
            created_at=utc_now(),
            ended_at=None,
        )
        request = request_of(deployment, parameters, settings_of(config, parameters, environment), {})
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await target.difference(request), None
        except SeamlessError as error:
            return [], error.reason
        except TimeoutError:
            return [], f"no answer within {_PATIENCE_S:g} s"
