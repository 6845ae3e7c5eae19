"""From what is stored to the shapes of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from seamless import wire
from seamless.agent.foresight import Foresight
from seamless.agent.gate import Gatekeeper, Order
from seamless.agent.merging import EVENT_KIND, told
from seamless.agent.resources import Resources
from seamless.agent.store.rows import to_time
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters
from seamless.errors import SeamlessError
from seamless.forges import CommitInfo
from seamless.model import (
    Approval,
    Deployment,
    Environment,
    Event,
    Hold,
    Image,
    Run,
    Stage,
    StageName,
)
from seamless.transitions import RUN_ENDED, RunState, StageState


def _time(value: datetime | None) -> str | None:
    return None if value is None else to_time(value)


def stage_json(stage: Stage, usual: Mapping[StageName, float], waits: Mapping[StageName, str]) -> wire.StageJSON:
    return {
        "name": stage.name,
        "state": stage.state,
        "attempt": stage.attempt,
        "reason": stage.reason,
        "exit_code": stage.exit_code,
        "started_at": _time(stage.started_at),
        "ended_at": _time(stage.ended_at),
        "waits_for": waits.get(stage.name) if stage.state is StageState.IDLE else None,
        "usual_s": usual.get(stage.name),
        "detail": dict(stage.detail),
    }


def event_json(event: Event) -> wire.EventJSON:
    return {
        "id": event.id,
        "at": to_time(event.at),
        "kind": event.kind,
        "service": event.service,
        "run": event.run,
        "stage": event.stage,
        "name": event.name,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "reason": event.reason,
        "actor": event.actor,
        "origin": event.origin,
        "data": dict(event.data),
    }


def deployment_json(deployment: Deployment) -> wire.DeploymentJSON:
    return {
        "id": deployment.id,
        "service": deployment.service,
        "environment": deployment.environment,
        "run": deployment.run,
        "trigger": deployment.trigger,
        "commit": deployment.commit,
        "digest": deployment.image.digest,
        "state": deployment.state,
        "reason": deployment.reason,
        "created_at": to_time(deployment.created_at),
        "ended_at": _time(deployment.ended_at),
    }


def hold_json(hold: Hold) -> wire.HoldJSON:
    return {"why": hold.why, "by": hold.by, "since": to_time(hold.since), "commit": hold.commit}


def _commit_json(info: CommitInfo) -> wire.CommitJSON:
    return {
        "commit": info.commit,
        "subject": info.subject,
        "author": info.author,
        "committed_at": to_time(info.committed_at),
    }


class Presenter:
    """`waits`: what keeps the next stages of a run from starting."""

    def __init__(
        self,
        resources: Resources,
        gatekeeper: Gatekeeper,
        foresight: Foresight,
        waits: Callable[[str], Mapping[StageName, str]],
    ) -> None:
        self._foresight = foresight
        self._resources = resources
        self._store = resources.store
        self._gatekeeper = gatekeeper
        self._waits = waits

    async def run(self, run: Run, *, approval: bool = False) -> wire.RunJSON:
        """`approval` adds what a waiting run's approval would let through."""
        waits = approval and run.state is RunState.AWAITING_APPROVAL
        usual = await self._store.runs.usual_durations(run.service) if run.state not in RUN_ENDED else {}
        return {
            "id": run.id,
            "service": run.service,
            "number": run.number,
            "trigger": run.trigger,
            "trust": run.trust,
            "commit": run.commit,
            "ref": run.ref,
            "subject": run.subject,
            "author": run.author,
            "state": run.state,
            "reason": run.reason,
            "requested_by": run.requested_by,
            "rerun_of": run.rerun_of,
            "created_at": to_time(run.created_at),
            "started_at": _time(run.started_at),
            "ended_at": _time(run.ended_at),
            "cancel_requested": None if run.cancel is None or run.state in RUN_ENDED else run.cancel.why,
            "stages": [stage_json(stage, usual, self._waits(run.id)) for stage in run.stages],
            "approval": await self._approval(run) if waits else None,
            "merge": told(await self._store.events.last(EVENT_KIND, run.id)),
        }

    async def _approval(self, run: Run) -> wire.ApprovalJSON:
        assert run.approval is not None
        if run.options.gated:
            return await self._approval_of_fork(run, run.approval)
        gate = await self._gatekeeper.look(run)
        hold = await self._store.deployments.hold(run.service)
        build = run.stage(StageName.BUILD)
        image = await self._store.images.get(build.detail["image"]) if build is not None else None
        integration = run.stage(StageName.INTEGRATION_TEST)
        known = gate.order is Order.FORWARD
        commits = await self._commits(run, gate.production) if known else []
        production = None
        if gate.production is not None and gate.production_run is not None:
            there = await self._store.runs.get(gate.production_run)
            production = await self._commit_of(there, gate.production)
        return {
            "run": run.id,
            "service": run.service,
            "lets_through": "production",
            "why": run.approval.why,
            "production": production,
            "staging": await self._moved_on(run),
            "commits": commits,
            "commits_known": known,
            "image": None if image is None else await self.image(image),
            "tested_against": [] if integration is None else list(integration.detail.get("peers", [])),
            "task_definition": await self._difference(run, image),
            "hold": None if hold is None else hold_json(hold),
            "expires_at": to_time(run.approval.expires_at),
        }

    async def _moved_on(self, run: Run) -> wire.CommitJSON | None:
        """What staging runs, when that is another commit than the one that it was to prove."""
        current = await self._store.deployments.current(run.service, Environment.STAGING)
        if run.stage(StageName.DEPLOY_STAGING) is None or current is None or current.commit == run.commit:
            return None
        return await self._commit_of(await self._store.runs.get(current.run), current.commit)

    async def _difference(self, run: Run, image: Image | None) -> str | None:
        """What production's task definition would become, in lines; None when there is none, or nothing changes."""
        parameters = Parameters.model_validate(run.parameters)
        lines, problem = await self._foresight.difference(
            run.service, Environment.PRODUCTION, parameters, run.commit, image
        )
        return "\n".join(lines if problem is None else [f"cannot be told: {problem}"]) or None

    async def _approval_of_fork(self, run: Run, approval: Approval) -> wire.ApprovalJSON:
        return {
            "run": run.id,
            "service": run.service,
            "lets_through": "checks",
            "why": approval.why,
            "production": None,
            "staging": None,
            "commits": await self._commits(run, run.base),
            "commits_known": run.base is not None,
            "image": None,
            "tested_against": [],
            "task_definition": None,
            "hold": None,
            "expires_at": to_time(approval.expires_at),
        }

    async def _commits(self, run: Run, base: str | None) -> list[wire.CommitJSON]:
        """Those that the run has and `base` has not, newest first; only the run's own without a base."""
        if base == run.commit:
            return []
        try:
            parameters = Parameters.model_validate(run.parameters)
            repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
            limit = 1 if base is None else 50
            found = await self._resources.forge.log(repository, base, run.commit, limit=limit)
        except SeamlessError:  # the listing is a comfort; the approval is bound to the digest
            return []
        return [_commit_json(info) for info in found]

    async def _commit_of(self, run: Run, commit: str) -> wire.CommitJSON:
        return {
            "commit": commit,
            "subject": run.subject,
            "author": run.author,
            "committed_at": to_time(run.created_at),
        }

    async def image(self, image: Image) -> wire.ImageJSON:
        built_by = await self._store.runs.get(image.run)
        there = [
            environment
            for environment in Environment
            if (current := await self._store.deployments.current(image.service, environment)) is not None
            and current.image.digest == image.ref.digest
        ]
        return {
            "service": image.service,
            "commit": image.commit,
            "digest": image.ref.digest,
            "ref": image.ref.pullable,
            "tag": image.tag,
            "built_at": to_time(image.built_at),
            "run": image.run,
            "deployable": image.deployable,
            "environments": [str(environment) for environment in there],
            "subject": built_by.subject,
            "author": built_by.author,
        }

    async def fleet(self) -> list[wire.ServiceStatusJSON]:
        """Every service's row."""
        return await self._rows(list(self._resources.config().services))

    async def service(self, name: str) -> wire.ServiceStatusJSON:
        """A service's row of the fleet."""
        return (await self._rows([name]))[0]

    async def _rows(self, names: Sequence[str]) -> list[wire.ServiceStatusJSON]:
        places = [(name, environment) for name in names for environment in Environment]
        current = [await self._store.deployments.current(*place) for place in places]
        drift = await self._foresight.drift.of([one for one in current if one is not None])
        return [await self._row(name, drift) for name in names]

    async def _row(self, name: str, drift: Mapping[int, str | None]) -> wire.ServiceStatusJSON:
        deployments = self._store.deployments
        parameters = self._resources.config().services[name]
        head = await self._store.heads.get(name, f"refs/heads/{parameters.branch}")
        active = await self._store.runs.newest(service=name, states=[RunState.IDLE, RunState.IN_PROGRESS])
        waiting = await self._store.runs.newest(service=name, states=[RunState.AWAITING_APPROVAL])
        waiting.sort(key=lambda run: run.options.gated)  # a fork's commit is not what stands before production
        last = await self._store.runs.newest(service=name, states=list(RUN_ENDED), limit=1)
        hold = await deployments.hold(name)
        return {
            "service": name,
            "head": None if head is None else {"commit": head[0], "seen_at": to_time(head[1])},
            "staging": await self._release(name, Environment.STAGING, drift),
            "production": await self._release(name, Environment.PRODUCTION, drift),
            "waiting": await self.run(waiting[0]) if waiting else None,
            "running": [await self.run(run) for run in active],
            "last": await self.run(last[0]) if last else None,
            "red_since": await self._red_since(name),
            "hold": None if hold is None else hold_json(hold),
            "problem": await self._store.heads.problem(name) or await self._store.outbox.problem(name),
        }

    async def _release(
        self, service: str, environment: Environment, drift: Mapping[int, str | None]
    ) -> wire.ReleaseJSON | None:
        current = await self._store.deployments.current(service, environment)
        newest = await self._store.deployments.newest(service, environment)
        if current is None or newest is None:
            return None
        return self._release_json(current, newest, drift.get(current.id))

    def _release_json(self, current: Deployment, newest: Deployment, drift: str | None) -> wire.ReleaseJSON:
        return {
            "commit": current.commit,
            "digest": current.image.digest,
            "run": current.run,
            "deployed_at": to_time(current.ended_at or current.created_at),
            "address": current.detail.get("address"),
            "state": newest.state,
            "drift": drift,
        }

    async def _red_since(self, service: str) -> wire.RedJSON | None:
        """The oldest failure of the branch since its last success."""
        oldest: Run | None = None
        for run in await self._store.runs.of_branch(service):
            if run.state is RunState.SUCCESS:
                break
            oldest = run
        if oldest is None:
            return None
        failed: Stage | None = next((stage for stage in oldest.stages if stage.state is StageState.FAILURE), None)
        return {
            "since": to_time(oldest.ended_at or oldest.created_at),
            "run": oldest.id,
            "stage": None if failed is None else failed.name,
            "reason": oldest.reason if failed is None else failed.reason,
        }

    def parameters(self, name: str) -> dict[str, Any]:
        """A service's resolved parameters, and where each comes from."""
        config = self._resources.config()
        return {
            "service": name,
            "parameters": config.services[name].model_dump(mode="json"),
            "sources": config.parameter_sources(name),
        }
