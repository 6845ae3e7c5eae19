"""What users ask of the agent: runs are started, repeated and cancelled, each with the right to it, and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from seamless.agent.access import Role, require
from seamless.agent.engine import Engine
from seamless.agent.identities import confirm_identity
from seamless.agent.planning import downstream_of, stages_of, trust_of
from seamless.agent.resources import Resources
from seamless.agent.store import NewRun
from seamless.agent.triggers import branch_of
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters
from seamless.errors import NotFoundError, RefusedError, UnavailableError, UsageError
from seamless.forges import CommitInfo, Repository, Resolved
from seamless.forges.github import PullRequest
from seamless.forges.github.refs import pull_request_number, pull_request_ref
from seamless.model import (
    LOCAL_REF,
    Actor,
    CancelRequest,
    Environment,
    Run,
    RunOptions,
    Stage,
    StageName,
    Trigger,
    short,
)
from seamless.transitions import RUN_ENDED, RunEvent, RunState, StageEvent, StageState

_RUN_ID: Final = re.compile(r".+-[0-9]+")


class Operations:
    def __init__(self, resources: Resources, engine: Engine) -> None:
        self._resources = resources
        self._store = resources.store
        self._engine = engine

    def parameters_of(self, service: str) -> Parameters:
        """What the configuration in force says of a service. Raises NotFoundError."""
        services = self._resources.config().services
        if service not in services:
            known = ", ".join(sorted(services)) or "none yet"
            raise NotFoundError(f"there is no service {service}", hint=f"configured: {known}")
        return services[service]

    def require(self, actor: Actor, role: Role, what: str) -> None:
        """Raises ForbiddenError when `actor` may not do `what`."""
        require(actor, role, self._resources.config().access, what)

    # -- finding runs

    async def find_run(self, name: str) -> Run:
        """A run by id, or a service's latest run."""
        if name in self._resources.config().services or not _RUN_ID.fullmatch(name):
            newest = await self._store.runs.newest(service=name, limit=1)
            if newest:
                return newest[0]
            self.parameters_of(name)
            raise NotFoundError(f"{name} has no run yet", hint=f"seamless run {name}")
        return await self._store.runs.get(name)

    # -- starting runs

    async def start(
        self,
        actor: Actor,
        service: str,
        *,
        ref: str | None,
        pull_request: int | None = None,
        options: RunOptions,
    ) -> Run:
        """A manual run of a branch, tag, ref or commit, or of a pull request."""
        self.require(actor, Role.OPERATOR, f"run {service}")
        parameters = self.parameters_of(service)
        self._resources.room.require()  # before anything is fetched
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        if pull_request is not None:
            ref = pull_request_ref(pull_request)
        github = self._resources.github_of(parameters.repo, parameters.git)
        if github is not None:
            with contextlib.suppress(UnavailableError):  # without an answer of the API, what git says counts
                await confirm_identity(self._store, github, repository)
        resolved = await self._resources.forge.resolve(repository, ref or branch_of(parameters))
        number = pull_request_number(resolved.ref)
        if number is not None and github is not None:
            now = await github.pull_request(repository, number)
            return await self._start_pull_request(actor, service, parameters, repository, now)
        if resolved.ref.startswith("refs/") and not resolved.ref.startswith(("refs/heads/", "refs/tags/")):
            return await self._start_strange_ref(actor, service, repository, resolved, parameters)
        on_branch = resolved.ref == branch_of(parameters)
        options = dataclasses.replace(options, on_branch=on_branch)
        if not resolved.ref.startswith("refs/"):
            options = await self._distrusted(parameters, repository, resolved.commit, options)
        subject, author = await self._describe(repository, resolved.ref, resolved.commit)
        new = self.new_run(
            actor, service, Trigger.MANUAL, resolved.ref, resolved.commit, options, parameters, subject, author
        )
        async with self._store.transaction():
            if on_branch:
                await self._store.heads.see(service, resolved.ref, resolved.commit)
            run = await self._store.runs.create(new)
            await self._audit_run(actor, run)
        self._engine.submit(run)
        return run

    async def _audit_run(self, actor: Actor, run: Run, name: str = "run") -> None:
        await self.audit(actor, name, run, {"ref": run.ref, "commit": run.commit})

    async def _distrusted(
        self, parameters: Parameters, repository: Repository, commit: str, options: RunOptions
    ) -> RunOptions:
        """A bare SHA gets the trust of the repository only if it is on a branch or tag: forges give out the commits
        of forks as well."""
        if await self._resources.forge.is_on_a_branch(repository, commit):
            return options
        gated = self._resources.github_of(parameters.repo, parameters.git) is not None
        if gated:
            _check_forks(parameters, f"{short(commit)} is on no branch or tag, so it may come from a fork")
        return dataclasses.replace(options, fork=True, gated=gated)

    async def _start_strange_ref(
        self, actor: Actor, service: str, repository: Repository, resolved: Resolved, parameters: Parameters
    ) -> Run:
        """A pull request's ref, merged onto the branch. Git does not tell whose it is: it is taken for a stranger's."""
        base = await self._resources.forge.resolve(repository, branch_of(parameters))
        subject, author = await self._describe(repository, resolved.ref, resolved.commit)
        new = self.new_run(
            actor,
            service,
            Trigger.PR_SYNC,
            resolved.ref,
            resolved.commit,
            RunOptions(fork=True),
            parameters,
            subject,
            author,
        )
        async with self._store.transaction():
            run = await self._store.runs.create(dataclasses.replace(new, base=base.commit))
            await self._audit_run(actor, run)
        self._engine.submit(run)
        return run

    async def _start_pull_request(
        self, actor: Actor, service: str, parameters: Parameters, repository: Repository, now: PullRequest
    ) -> Run:
        """A pull request of a forge that tells whose it is."""
        name = f"pull request {now.number}"
        if not now.is_open:
            raise RefusedError(f"{name} is closed", hint=f"seamless run {service} runs what its branch has")
        if now.base_ref != parameters.branch:
            raise RefusedError(f"{name} is for {now.base_ref}, and {service} is made from {parameters.branch}")
        if now.is_fork:
            _check_forks(parameters, f"{name} comes from a fork")
        base = await self._resources.forge.resolve(repository, branch_of(parameters))
        await self._resources.forge.fetch(repository, now.head, now.ref)
        info = await self._resources.forge.info(repository, now.head)
        async with self._store.transaction():
            run = await self.create_for_pull_request(
                actor, service, parameters, now, info, Trigger.PR_SYNC, base=base.commit
            )
            await self._audit_run(actor, run)
        self._engine.submit(run)
        return run

    async def create_for_pull_request(
        self,
        actor: Actor,
        service: str,
        parameters: Parameters,
        now: PullRequest,
        head: CommitInfo,
        trigger: Trigger,
        *,
        base: str,
    ) -> Run:
        """Stores the run of a pull request and supersedes those of its older commits; the caller submits it."""
        options = RunOptions(fork=now.is_fork, gated=now.is_fork)
        new = self.new_run(actor, service, trigger, now.ref, now.head, options, parameters, head.subject, head.author)
        async with self._store.transaction():
            word = await self._store.runs.word_for(service, now.ref, now.head) if now.is_fork else None
            older = await self._store.runs.active_of(service, now.ref)
            run = await self._store.runs.create(dataclasses.replace(new, base=base, approval=word))
            for one in older:
                if one.commit != now.head:
                    request = CancelRequest(RunEvent.SUPERSEDE, f"superseded by {run.id}", actor.name)
                    await self._store.runs.request_cancel(one, request)
        return run

    def check_local(self, actor: Actor, service: str) -> None:
        """Refuses a `--local` run before its tree is taken in."""
        self.require(actor, Role.OPERATOR, f"run {service}")
        self.parameters_of(service)
        self._resources.room.require()

    async def start_local(self, actor: Actor, service: str, commit: str, tree: Path) -> Run:
        """The checks of a tree that the client has streamed to the tar file `tree`, which is taken over."""
        self.check_local(actor, service)
        options = RunOptions(local=True, checks=True)
        parameters = self.parameters_of(service)
        subject = f"local tree at {short(commit)}"
        new = self.new_run(actor, service, Trigger.MANUAL, LOCAL_REF, commit, options, parameters, subject, actor.name)
        async with self._store.transaction():
            run = await self._store.runs.create(new)
            await self._audit_run(actor, run)
        tree.rename(self._resources.workspaces.local_source(run.id))
        self._engine.submit(run)
        return run

    async def _describe(self, repository: Repository, ref: str, commit: str) -> tuple[str, str]:
        """A commit's subject and author. Fetches it when it is not there."""
        await self._resources.forge.fetch(repository, commit, ref)
        info = await self._resources.forge.info(repository, commit)
        return info.subject, info.author

    def new_run(
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
        """Raises StorageError when there is no room for a run that is to write much."""
        if trigger not in (Trigger.ROLLBACK, Trigger.PROMOTE):
            self._resources.room.require()
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
        parameters = self.parameters_of(old.service)
        options = dataclasses.replace(old.options, from_stage=from_stage)
        new = self.new_run(
            actor, old.service, old.trigger, old.ref, old.commit, options, parameters, old.subject, old.author, old.id
        )
        if old.trigger in (Trigger.ROLLBACK, Trigger.PROMOTE):
            await self.check_image(options)
        async with self._store.transaction():
            word = old.approval if old.options.gated and old.approval is not None and old.approval.by else None
            run = await self._store.runs.create(dataclasses.replace(new, base=old.base, approval=word))
            await self._audit_run(actor, run, "rerun")
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

    async def cancel(self, actor: Actor, name: str, why: str) -> Run:
        self.require(actor, Role.OPERATOR, f"cancel {name}")
        active = [RunState.IDLE, RunState.IN_PROGRESS, RunState.AWAITING_APPROVAL]
        newest = await self._store.runs.newest(service=name, states=active, limit=1)
        run = newest[0] if newest else await self.find_run(name)
        words = f"cancelled by {actor.name}" + (f": {why}" if why else "")
        request = CancelRequest(RunEvent.CANCEL, words, actor.name)
        if not await self._store.runs.request_cancel(run, request, origin=actor.origin):
            run = await self._store.runs.get(run.id)
            if run.state in RUN_ENDED:
                raise RefusedError(f"{run.id} has ended already: {run.state}")
            raise RefusedError(f"{run.id} is being cancelled already")
        return await self._store.runs.get(run.id)

    async def audit(self, actor: Actor, name: str, run: Run, data: Mapping[str, Any]) -> None:
        await self._store.events.add(
            "action", name, service=run.service, run=run.id, actor=actor.name, origin=actor.origin, data=data
        )

    async def check_image(self, options: RunOptions) -> None:
        """The image is still there, asked of the engine or registry. Raises RefusedError."""
        image = None if options.image is None else await self._store.images.get(options.image)
        if image is None:
            raise RefusedError("the image is gone")
        environment = options.environment or Environment.PRODUCTION
        target = self._resources.targets[self._resources.config().environments[environment].target]
        if not await target.has_image(image.ref):
            await self._store.images.mark_gone(image.id)
            raise RefusedError(
                f"the image of {short(image.commit)} is gone",
                hint=f"seamless images {image.service} lists what is there",
            )


def _check_forks(parameters: Parameters, what: str) -> None:
    """Raises RefusedError where strangers' code is not run at all."""
    if parameters.forks == "off":
        raise RefusedError(
            f"{what}, and forks are off",
            hint='forks = "approve" lets an approver release each commit of a fork',
        )
