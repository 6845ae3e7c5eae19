"""What a run would do, and whether an environment still runs what was put there: read only."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable
from typing import Final

from seamless.agent.access import Role
from seamless.agent.deploying import request_of
from seamless.agent.environments import settings_of
from seamless.agent.operations import Operations
from seamless.agent.planning import stages_of
from seamless.agent.resources import Resources
from seamless.agent.triggers import branch_of
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters
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
        self._known: dict[tuple[str, Environment], tuple[float, str | None]] = {}

    async def look(self, services: Iterable[str]) -> None:
        """Asks for all of them at once, so that `of` need not wait for one after the other."""
        await asyncio.gather(*(self.of(service, environment) for service in services for environment in Environment))

    async def of(self, service: str, environment: Environment) -> str | None:
        """What runs there instead, and who put it there; why that cannot be read; or None."""
        config = self._resources.config()
        target = self._resources.targets[config.environments[environment].target]
        deployments = self._resources.store.deployments
        current = await deployments.current(service, environment)
        if current is None or await deployments.locked(service, environment) is not None:
            return None
        known = self._known.get((service, environment))
        if known is not None and time.monotonic() - known[0] < _FRESH_S:
            return known[1]
        settings = settings_of(config, config.services[service], environment)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await target.drift(current, settings)
        except SeamlessError as error:
            found = f"cannot be read: {error.message}"
        except TimeoutError:
            found = f"cannot be read: no answer within {_PATIENCE_S:g} s"
        self._known[service, environment] = (time.monotonic(), found)
        return found


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
