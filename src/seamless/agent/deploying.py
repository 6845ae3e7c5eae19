"""The deploy stages: one deployment, from its record to its verdict."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from seamless.agent.environments import settings_of
from seamless.agent.resources import Resources
from seamless.agent.store import Store
from seamless.agent.verdicts import StopSwitch, Verdict
from seamless.config import Parameters
from seamless.errors import SeamlessError, StageError, StorageError, UnavailableError
from seamless.model import Deployment, Environment, Run, Trigger, short
from seamless.stages import StageContext
from seamless.targets import DeployOutcome, DeployRequest, Target, after
from seamless.transitions import DeploymentEvent, DeploymentState, StageEvent

_log = logging.getLogger(__name__)


class DeploymentJournal:
    """Implements `targets.Journal`."""

    def __init__(self, store: Store, deployment: Deployment) -> None:
        self._store = store
        self._deployment = deployment.id
        self._entries = dict(deployment.journal)

    def get(self, key: str) -> Any:
        return self._entries.get(key)

    async def record(self, **entries: Any) -> None:
        await self._store.deployments.record_journal(self._deployment, entries)
        self._entries.update(entries)


class Deployer:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._store = resources.store

    async def deploy(self, context: StageContext, environment: Environment, switch: StopSwitch) -> Verdict:
        """Carries out the deployment that was recorded when the stage started, or goes on with it."""
        deployment = await self._store.deployments.of_run(context.run.id, environment)
        assert deployment is not None, "a deploy stage starts together with the record of its deployment"
        config = self._resources.config()
        settings = settings_of(config, context.parameters, environment)
        target = self._resources.targets[config.environments[environment].target]
        try:
            if deployment.state is DeploymentState.RECORDED:
                if switch.reason is not None:
                    return self._abandoned(deployment, StageEvent.CANCEL, switch.reason)
                await self._reconcile(deployment, target, settings)
                if not await target.has_image(deployment.image):
                    raise StageError(f"the image {deployment.image.pullable} of {short(deployment.commit)} is gone")
                deployment = await self._store.deployments.transition(deployment, DeploymentEvent.SUBMIT)
        except StorageError:
            raise
        except SeamlessError as error:
            reason = error.reason
            return self._abandoned(deployment, StageEvent.FAIL, reason)
        recorded = await self._recorded(deployment)
        request = request_of(
            deployment, context.parameters, settings, context.secrets, cancel=switch.asked, recorded=recorded
        )
        journal = DeploymentJournal(self._store, deployment)
        try:
            outcome = await target.deploy(request, journal, context.line)
        except StorageError:
            raise
        except UnavailableError as error:
            outcome = DeployOutcome(DeploymentEvent.LOSE_SIGHT, error.message)
        except StageError as error:
            outcome = DeployOutcome(DeploymentEvent.FAIL, error.message)
        except Exception as error:
            _log.exception("deployment %d of %s met an error of our own", deployment.id, context.run.id)
            outcome = DeployOutcome(DeploymentEvent.LOSE_SIGHT, f"an error in Seamless itself: {error!r}")
        if outcome.event is not DeploymentEvent.COMPLETE:
            explanation = await target.explain(request, journal)
            if explanation:
                await context.line("what was seen:")
            for line in explanation:
                await context.line(line)
            outcome = dataclasses.replace(outcome, detail={**outcome.detail, "explanation": explanation})
        reason = context.redact(outcome.reason)
        if outcome.event is not DeploymentEvent.COMPLETE and switch.reason is not None:
            reason = switch.reason if reason is None else after(switch.reason, reason)
        outcome = dataclasses.replace(outcome, reason=reason, detail=context.redact(outcome.detail))
        return self._judged(context, deployment, outcome, switch)

    async def give_up(self, run: Run, environment: Environment, verdict: Verdict) -> Verdict:
        """`verdict`, with the end of a deployment that cannot be carried on. One that was submitted is unknown."""
        deployment = await self._store.deployments.of_run(run.id, environment)
        assert deployment is not None, "a deploy stage starts together with the record of its deployment"
        recorded = deployment.state is DeploymentState.RECORDED
        event = DeploymentEvent.ABANDON if recorded else DeploymentEvent.LOSE_SIGHT

        async def also() -> None:
            await self._store.deployments.transition(deployment, event, reason=verdict.reason)

        return dataclasses.replace(verdict, also=also)

    async def _recorded(self, deployment: Deployment) -> Mapping[str, Any]:
        """For a rollback: what was recorded when its image was deployed there last with success."""
        if deployment.trigger is not Trigger.ROLLBACK:
            return {}
        before = await self._store.deployments.last_of_image(
            deployment.service, deployment.environment, deployment.image.digest
        )
        return {} if before is None else before.detail

    async def _reconcile(self, deployment: Deployment, target: Target, settings: Mapping[str, Any]) -> None:
        """Finds out what became of an earlier deployment that was lost sight of."""
        for unknown in await self._store.deployments.unknown(deployment.service, deployment.environment):
            found = await target.reconcile(unknown, settings)
            said = "" if found.reason is None else f"{found.reason}; "
            await self._store.deployments.transition(
                unknown,
                found.event,
                reason=f"{said}found by deployment {deployment.id} of {deployment.run}",
                detail=found.detail,
            )

    def _abandoned(self, deployment: Deployment, event: StageEvent, reason: str) -> Verdict:
        async def also() -> None:
            await self._store.deployments.transition(deployment, DeploymentEvent.ABANDON, reason=reason)

        return Verdict(event, reason, also=also)

    def _judged(
        self, context: StageContext, deployment: Deployment, outcome: DeployOutcome, switch: StopSwitch
    ) -> Verdict:
        async def also() -> None:
            await self._store.deployments.transition(
                deployment, outcome.event, reason=outcome.reason, detail=outcome.detail
            )
            if outcome.event is DeploymentEvent.COMPLETE and deployment.environment is Environment.PRODUCTION:
                await self._end_released_hold(deployment)

        detail = {"deployment": deployment.id, "commit": deployment.commit, **outcome.detail}
        if outcome.event is DeploymentEvent.COMPLETE:
            return Verdict(StageEvent.SUCCEED, detail={**detail, "note": outcome.reason}, also=also)
        if switch.reason is not None:
            return Verdict(StageEvent.CANCEL, outcome.reason, detail=detail, also=also)
        return Verdict(StageEvent.FAIL, outcome.reason, detail=detail, also=also)

    async def _end_released_hold(self, deployment: Deployment) -> None:
        hold = await self._store.deployments.hold(deployment.service)
        if hold is not None and hold.released_by_run == deployment.run and deployment.trigger is not Trigger.ROLLBACK:
            await self._store.deployments.end_hold(deployment.service, by="agent", run=deployment.run)


def request_of(
    deployment: Deployment,
    parameters: Parameters,
    settings: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    cancel: asyncio.Event | None = None,
    recorded: Mapping[str, Any] = MappingProxyType({}),
) -> DeployRequest:
    """What the target is asked. `settings` are `settings_of` the environment."""
    deploy = parameters.for_environment(deployment.environment)
    return DeployRequest(
        deployment=deployment.id,
        run=deployment.run,
        service=deployment.service,
        environment=deployment.environment,
        commit=deployment.commit,
        image=deployment.image,
        settings=settings,
        port=deploy.port,
        publish=deploy.publish,
        health=deploy.health,
        env=deploy.env,
        secret_env=secrets,
        limits=deploy.limits.model_dump(mode="json"),
        recorded=recorded,
        deadline_s=parameters.deploy_timeout,
        cancel=cancel or asyncio.Event(),
    )
