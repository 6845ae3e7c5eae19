"""What users ask of the agent, each checked against state and rights, recorded with who asked."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from seamless.agent.access import Role, require
from seamless.agent.engine import Engine
from seamless.agent.gate import Gatekeeper, Order, refusal
from seamless.agent.planning import downstream_of, stages_of, trust_of
from seamless.agent.resources import Resources
from seamless.agent.store import NewRun, StaleStateError
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters
from seamless.errors import NotFoundError, RefusedError, UsageError
from seamless.model import (
    Actor,
    CancelRequest,
    Environment,
    Hold,
    Image,
    Run,
    RunOptions,
    Stage,
    StageName,
    Trigger,
    short,
)
from seamless.transitions import RUN_ENDED, RunEvent, RunState, StageEvent, StageState

_SHA_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}")
_RUN_ID: Final = re.compile(r".+-[0-9]+")


class Operations:
    def __init__(self, resources: Resources, engine: Engine, gatekeeper: Gatekeeper) -> None:
        self._resources = resources
        self._store = resources.store
        self._engine = engine
        self._gatekeeper = gatekeeper

    def _parameters(self, service: str) -> Parameters:
        services = self._resources.config().services
        if service not in services:
            known = ", ".join(sorted(services)) or "none yet"
            raise NotFoundError(f"there is no service {service}", hint=f"configured: {known}")
        return services[service]

    def require(self, actor: Actor, role: Role, what: str) -> None:
        require(actor, role, self._resources.config().access, what)

    def check_service(self, service: str) -> None:
        """Raises NotFoundError for a service that is not configured."""
        self._parameters(service)

    async def audit_shell(self, actor: Actor, run: Run, stage: StageName) -> None:
        """Records that somebody opens a shell."""
        await self._audit(actor, "shell", run, {"stage": stage})

    # -- finding runs

    async def find_run(self, name: str) -> Run:
        """A run by id, or a service's latest run."""
        if name in self._resources.config().services or not _RUN_ID.fullmatch(name):
            newest = await self._store.runs.newest(service=name, limit=1)
            if newest:
                return newest[0]
            self._parameters(name)
            raise NotFoundError(f"{name} has no run yet", hint=f"seamless run {name}")
        return await self._store.runs.get(name)

    async def _find_waiting(self, name: str) -> Run:
        """A run that waits for approval, by id or service. Says what became of one that does not."""
        waiting = await self._store.runs.newest(service=name, states=[RunState.AWAITING_APPROVAL], limit=1)
        if waiting:
            return waiting[0]
        run = await self.find_run(name)
        if run.state is RunState.AWAITING_APPROVAL:
            return run
        raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}")

    async def _became(self, run: Run) -> str:
        for event in reversed(await self._store.events.after(0, run=run.id, limit=1000)):
            if event.name in ("approve", "reject", "expire", "void") and event.kind == "run":
                words = {"approve": "approved", "reject": "rejected", "expire": "expired", "void": "void"}[event.name]
                reason = f" ({event.reason})" if event.reason else ""
                return f"it was {words} by {event.actor} at {event.at:%Y-%m-%d %H:%M:%S} UTC{reason}"
        return f"it is {run.state}"

    # -- starting runs

    async def start(self, actor: Actor, service: str, *, ref: str | None, options: RunOptions) -> Run:
        """A manual run of a branch, tag, ref or commit."""
        self.require(actor, Role.OPERATOR, f"run {service}")
        parameters = self._parameters(service)
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        resolved = await self._resources.forge.resolve(repository, ref or f"refs/heads/{parameters.branch}")
        on_branch = resolved.ref == f"refs/heads/{parameters.branch}"
        options = dataclasses.replace(options, on_branch=on_branch)
        run = await self._create(actor, service, Trigger.MANUAL, resolved.ref, resolved.commit, options, parameters)
        if on_branch:
            await self._store.heads.see(service, resolved.ref, resolved.commit)
        return run

    async def start_for_push(self, actor: Actor, service: str, ref: str, commit: str) -> Run | None:
        """A run for a new head of the service's branch; None when that head had been seen."""
        parameters = self._parameters(service)
        options = RunOptions(on_branch=True)
        info = await self._describe(parameters, ref, commit)
        async with self._store.transaction():
            if not await self._store.heads.see(service, ref, commit):
                return None
            new = self._new_run(actor, service, Trigger.MAIN, ref, commit, options, parameters, *info)
            run = await self._store.runs.create(new)
        self._engine.submit(run)
        return run

    def check_local(self, actor: Actor, service: str) -> None:
        """Refuses a `--local` run before its tree is taken in."""
        self.require(actor, Role.OPERATOR, f"run {service}")
        self._parameters(service)

    async def start_local(self, actor: Actor, service: str, commit: str, tree: Path) -> Run:
        """The checks of a tree that the client has streamed to the tar file `tree`, which is taken over."""
        self.check_local(actor, service)
        options = RunOptions(local=True, checks=True)
        parameters = self._parameters(service)
        subject = f"local tree at {short(commit)}"
        new = self._new_run(actor, service, Trigger.MANUAL, "local", commit, options, parameters, subject, actor.name)
        run = await self._store.runs.create(new)
        tree.rename(self._resources.workspaces.local_source(run.id))
        self._engine.submit(run)
        return run

    async def _describe(self, parameters: Parameters, ref: str, commit: str) -> tuple[str, str]:
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        await self._resources.forge.fetch(repository, commit, ref)
        info = await self._resources.forge.info(repository, commit)
        return info.subject, info.author

    def _new_run(
        self,
        actor: Actor,
        service: str,
        trigger: Trigger,
        ref: str,
        commit: str,
        options: RunOptions,
        parameters: Parameters,
        subject: str,
        author: str,
        rerun_of: str | None = None,
    ) -> NewRun:
        return NewRun(
            service=service,
            trigger=trigger,
            trust=trust_of(trigger, options),
            ref=ref,
            commit=commit,
            subject=subject,
            author=author,
            requested_by=actor.name,
            parameters=parameters.model_dump(mode="json"),
            options=options,
            stages=stages_of(
                trigger,
                options,
                use_staging=parameters.use_staging,
                pull_request_stages=[StageName(name) for name in parameters.pull_request_stages],
            ),
            rerun_of=rerun_of,
        )

    async def _create(
        self,
        actor: Actor,
        service: str,
        trigger: Trigger,
        ref: str,
        commit: str,
        options: RunOptions,
        parameters: Parameters,
    ) -> Run:
        subject, author = await self._describe(parameters, ref, commit)
        new = self._new_run(actor, service, trigger, ref, commit, options, parameters, subject, author)
        run = await self._store.runs.create(new)
        self._engine.submit(run)
        return run

    async def rerun(self, actor: Actor, name: str, *, from_stage: StageName | None) -> Run:
        """The same again, as a new run on today's parameters; `from_stage` keeps what is not downstream of it."""
        old = await self.find_run(name)
        self._require_for(actor, old)
        if old.state not in RUN_ENDED:
            raise RefusedError(f"{old.id} has not ended", hint=f"seamless cancel {old.id}")
        if old.options.local:
            raise RefusedError(
                f"{old.id} ran a local tree, which is gone", hint=f"seamless run {old.service} --local …"
            )
        if from_stage is not None and old.stage(from_stage) is None:
            names = ", ".join(stage.name for stage in old.stages)
            raise UsageError(f"{old.id} has no stage {from_stage}", hint=f"its stages: {names}")
        parameters = self._parameters(old.service)
        options = dataclasses.replace(old.options, from_stage=from_stage)
        new = self._new_run(
            actor, old.service, old.trigger, old.ref, old.commit, options, parameters, old.subject, old.author, old.id
        )
        if old.trigger in (Trigger.ROLLBACK, Trigger.PROMOTE):
            await self._check_image(options)
        async with self._store.transaction():
            run = await self._store.runs.create(dataclasses.replace(new, base=old.base))
            if from_stage is not None:
                await self._keep(run, old, from_stage)
        run = await self._store.runs.get(run.id)
        self._engine.submit(run)
        return run

    def _require_for(self, actor: Actor, run: Run) -> None:
        """The rights that the run's original trigger needed."""
        approver = run.trigger is Trigger.PROMOTE or (
            run.trigger is Trigger.ROLLBACK and run.options.environment is Environment.PRODUCTION
        )
        self.require(actor, Role.APPROVER if approver else Role.OPERATOR, f"rerun {run.id}")

    async def _keep(self, run: Run, old: Run, from_stage: StageName) -> None:
        """Takes over the successes that are not downstream of `from_stage`."""
        again = downstream_of(from_stage)
        for stage in run.stages:
            before = old.stage(stage.name)
            if stage.name in again or before is None or before.state is not StageState.SUCCESS:
                continue
            if not await self._still_there(run, old, before):
                continue
            reason = f"kept from {old.id}"
            await self._store.runs.transition_stage(
                run, stage, StageEvent.REUSE, reason=reason, detail={**before.detail, "kept_from": old.id}
            )

    async def _still_there(self, run: Run, old: Run, before: Stage) -> bool:
        """Whether what the stage had made is there: the workspace of prepare, the image of build."""
        if before.name is StageName.PREPARE:
            return await self._resources.workspaces.inherit(run.id, old)
        if before.name is StageName.BUILD:
            image = await self._store.images.get(before.detail["image"])
            return image is not None and image.gone_at is None
        return True

    # -- the gate

    async def approve(self, actor: Actor, name: str, *, release: bool, allow_rewritten: bool) -> Run:
        self.require(actor, Role.APPROVER, f"approve {name}")
        run = await self._find_waiting(name)
        assert run.approval is not None
        gate = await self._gatekeeper.look(run)
        refused = refusal(run, gate)
        if refused is not None:
            raise RefusedError(f"{run.id} cannot go to production: {refused}")
        if gate.order is Order.REWRITTEN and not allow_rewritten and gate.production is not None:
            raise RefusedError(
                f"production runs {short(gate.production)}, which is not in the history of {short(run.commit)}",
                hint=f"if the history was rewritten on purpose: seamless approve {run.id} --allow-rewritten",
            )
        if gate.production_digest != run.approval.production:
            raise RefusedError(f"production has changed since {run.id} began to wait", hint=f"seamless show {run.id}")
        approval = dataclasses.replace(run.approval, by=actor.name, release=release, allow_rewritten=allow_rewritten)
        try:
            async with self._store.transaction():
                approved = await self._store.runs.transition(run, RunEvent.APPROVE, actor=actor.name)
                await self._store.runs.set_approval(run.id, approval)
                if release:
                    await self._store.deployments.release_with(run.service, run.id)
                await self._audit(actor, "approve", approved, {"release": release, "allow_rewritten": allow_rewritten})
        except StaleStateError:
            run = await self._store.runs.get(run.id)
            raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}") from None
        return await self._store.runs.get(run.id)

    async def reject(self, actor: Actor, name: str, why: str) -> Run:
        self.require(actor, Role.APPROVER, f"reject {name}")
        run = await self._find_waiting(name)
        try:
            async with self._store.transaction():
                rejected = await self._store.end_waiting(run, RunEvent.REJECT, reason=why, actor=actor.name)
                await self._audit(actor, "reject", rejected, {"why": why})
        except StaleStateError:
            run = await self._store.runs.get(run.id)
            raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}") from None
        return rejected

    async def cancel(self, actor: Actor, name: str, why: str) -> Run:
        self.require(actor, Role.OPERATOR, f"cancel {name}")
        active = [RunState.IDLE, RunState.IN_PROGRESS, RunState.AWAITING_APPROVAL]
        newest = await self._store.runs.newest(service=name, states=active, limit=1)
        run = newest[0] if newest else await self.find_run(name)
        words = f"cancelled by {actor.name}" + (f": {why}" if why else "")
        if not await self._store.runs.request_cancel(run, CancelRequest(RunEvent.CANCEL, words, actor.name)):
            run = await self._store.runs.get(run.id)
            if run.state in RUN_ENDED:
                raise RefusedError(f"{run.id} has ended already: {run.state}")
            raise RefusedError(f"{run.id} is being cancelled already")
        return await self._store.runs.get(run.id)

    async def _audit(self, actor: Actor, name: str, run: Run, data: Mapping[str, Any]) -> None:
        await self._store.events.add("action", name, service=run.service, run=run.id, actor=actor.name, data=data)

    # -- what runs where

    async def roll_back(self, actor: Actor, to: str, service: str | None, environment: Environment) -> Run:
        """A run that deploys an earlier image. Production's rollback puts the service on hold."""
        role = Role.APPROVER if environment is Environment.PRODUCTION else Role.OPERATOR
        self.require(actor, role, f"roll back {environment}")
        if service is not None:
            self._parameters(service)
        image = await self._image_of(to, service)
        options = RunOptions(environment=environment, image=image.id)
        await self._check_image(options)
        return await self._deploy_again(actor, Trigger.ROLLBACK, image, options)

    async def _image_of(self, to: str, service: str | None) -> Image:
        where = "" if service is None else f" of {service}"
        listing = f"seamless images {service or 'SERVICE'}"
        prefix = to.lower()
        if not _SHA_PREFIX.fullmatch(prefix):
            raise UsageError(f"{to} is not a commit", hint="give four or more hexadecimal digits of its SHA")
        images = await self._store.images.by_commit(prefix, service)
        if not images:
            raise NotFoundError(f"there is no image{where} of a commit {to}", hint=f"{listing} lists them")
        found = sorted({f"{image.service} {image.commit[:12]}" for image in images})
        if len(found) > 1:
            raise UsageError(f"{to} is ambiguous: {', '.join(found)}", hint="give more digits, or name the service")
        usable = [image for image in images if image.deployable]
        if usable:
            return usable[0]
        image = images[0]
        if image.gone_at is not None:
            raise RefusedError(f"the image of {short(image.commit)} is gone", hint=f"{listing} lists what is there")
        if not image.trusted:
            raise RefusedError(f"the image of {short(image.commit)} was built by {image.run}, which is not trusted")
        raise RefusedError(f"the checks of {short(image.commit)} did not pass in {image.run}", hint=f"{listing}")

    async def _check_image(self, options: RunOptions) -> None:
        """The image is still there, asked of the engine or registry. Raises RefusedError."""
        image = None if options.image is None else await self._store.images.get(options.image)
        if image is None:
            raise RefusedError("the image is gone")
        target = self._resources.targets[self._resources.config().environments[Environment.PRODUCTION].target]
        if not await target.has_image(image.ref):
            await self._store.images.mark_gone(image.id)
            raise RefusedError(
                f"the image of {short(image.commit)} is gone",
                hint=f"seamless images {image.service} lists what is there",
            )

    async def _deploy_again(self, actor: Actor, trigger: Trigger, image: Image, options: RunOptions) -> Run:
        built = await self._store.runs.get(image.run)
        parameters = self._parameters(image.service)
        new = self._new_run(
            actor, image.service, trigger, built.ref, image.commit, options, parameters, built.subject, built.author
        )
        async with self._store.transaction():
            run = await self._store.runs.create(new)
            await self._audit(actor, trigger, run, {"commit": image.commit, "environment": options.environment})
            if trigger is Trigger.ROLLBACK and options.environment is Environment.PRODUCTION:
                await self._store.deployments.set_hold(
                    image.service,
                    why=f"rolled back to {short(image.commit)} by {actor.name} ({run.id})",
                    by=actor.name,
                    commit=image.commit,
                )
            if options.release:
                await self._store.deployments.release_with(image.service, run.id)
        self._engine.submit(run)
        return run

    async def promote(self, actor: Actor, service: str, *, release: bool, allow_rewritten: bool) -> Run:
        """Puts what staging runs into production."""
        self.require(actor, Role.APPROVER, f"promote {service}")
        self._parameters(service)
        staging = await self._store.deployments.current(service, Environment.STAGING)
        if staging is None:
            raise RefusedError(f"staging runs nothing of {service}")
        made = await self._store.runs.get(staging.run)
        image = await self._store.images.by_digest(service, staging.image.digest)
        if image is None or not image.deployable or not (made.options.on_branch or made.trigger is Trigger.ROLLBACK):
            raise RefusedError(
                f"staging runs {short(staging.commit)} of {made.id}, which is not of the service's branch",
                hint=f"seamless run {service}",
            )
        hold = await self._store.deployments.hold(service)
        if hold is not None and not release:
            raise RefusedError(f"{service} is on hold: {hold.why}", hint=f"seamless promote {service} --release")
        options = RunOptions(
            environment=Environment.PRODUCTION, image=image.id, release=release, allow_rewritten=allow_rewritten
        )
        await self._check_image(options)
        await self._check_order(service, image, allow_rewritten=allow_rewritten)
        return await self._deploy_again(actor, Trigger.PROMOTE, image, options)

    async def _check_order(self, service: str, image: Image, *, allow_rewritten: bool) -> None:
        built = await self._store.runs.get(image.run)
        parameters = self._parameters(service).model_dump(mode="json")
        gate = await self._gatekeeper.look(dataclasses.replace(built, parameters=parameters, trigger=Trigger.PROMOTE))
        refused = refusal(built, gate)
        if refused is not None:
            raise RefusedError(refused, hint=f"to go back: seamless rollback {service} --to {short(image.commit)}")
        if gate.order is Order.REWRITTEN and not allow_rewritten and gate.production is not None:
            raise RefusedError(
                f"production runs {short(gate.production)}, which is not in the history of {short(image.commit)}",
                hint=f"if the history was rewritten on purpose: seamless promote {service} --allow-rewritten",
            )

    async def hold(self, actor: Actor, service: str, why: str) -> Hold:
        self.require(actor, Role.APPROVER, f"hold {service}")
        self._parameters(service)
        return await self._store.deployments.set_hold(service, why=why, by=actor.name, commit=None)

    async def release(self, actor: Actor, service: str) -> None:
        self.require(actor, Role.APPROVER, f"release {service}")
        self._parameters(service)
        if not await self._store.deployments.end_hold(service, by=actor.name):
            raise RefusedError(f"{service} is not on hold")
