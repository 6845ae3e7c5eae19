"""What runs where, by someone's word: rollback, promote, hold, release."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from seamless.agent.access import Role
from seamless.agent.engine import Engine
from seamless.agent.gate import Gatekeeper, Order, refusal
from seamless.agent.operations import Operations
from seamless.agent.resources import Resources
from seamless.errors import NotFoundError, RefusedError, UsageError
from seamless.model import Actor, CancelRequest, Environment, Hold, Image, Run, RunOptions, Trigger, short
from seamless.transitions import RunEvent

_SHA_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}")


class Releases:
    def __init__(self, resources: Resources, engine: Engine, operations: Operations, gatekeeper: Gatekeeper) -> None:
        self._resources = resources
        self._store = resources.store
        self._engine = engine
        self._operations = operations
        self._gatekeeper = gatekeeper

    async def roll_back(self, actor: Actor, to: str, service: str | None, environment: Environment) -> Run:
        """A run that deploys an earlier image. Production's rollback puts the service on hold."""
        role = Role.APPROVER if environment is Environment.PRODUCTION else Role.OPERATOR
        self._operations.require(actor, role, f"roll back {environment}")
        if service is not None:
            self._operations.parameters_of(service)
        image = await self._image_of(to, service)
        options = RunOptions(environment=environment, image=image.id)
        await self._operations.check_image(options)
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

    async def _deploy_again(self, actor: Actor, trigger: Trigger, image: Image, options: RunOptions) -> Run:
        built = await self._store.runs.get(image.run)
        parameters = self._operations.parameters_of(image.service)
        new = self._operations.new_run(
            actor, image.service, trigger, built.ref, image.commit, options, parameters, built.subject, built.author
        )
        async with self._store.transaction():
            run = await self._store.runs.create(new)
            await self._operations.audit(
                actor, trigger, run, {"commit": image.commit, "environment": options.environment}
            )
            if trigger is Trigger.ROLLBACK and options.environment is Environment.PRODUCTION:
                await self._store.deployments.set_hold(
                    image.service,
                    why=f"rolled back to {short(image.commit)} by {actor.name} ({run.id})",
                    by=actor.name,
                    origin=actor.origin,
                    commit=image.commit,
                )
            if trigger is Trigger.ROLLBACK and options.environment is not None:
                await self._supersede(options.environment, run, actor)
            if options.release:
                await self._store.deployments.release_with(image.service, run.id)
        self._engine.submit(run)
        return run

    async def _supersede(self, environment: Environment, rollback: Run, actor: Actor) -> None:
        """A deployment that is under way there ends first: stopped, and followed back by the run that began it."""
        running = await self._store.deployments.locked(rollback.service, environment)
        if running is not None:
            words = f"superseded by the rollback {rollback.id}"
            begun = await self._store.runs.get(running.run)
            request = CancelRequest(RunEvent.SUPERSEDE, words, actor.name)
            await self._store.runs.request_cancel(begun, request, origin=actor.origin)

    async def promote(self, actor: Actor, service: str, *, release: bool, allow_rewritten: bool) -> Run:
        """Puts what staging runs into production."""
        self._operations.require(actor, Role.APPROVER, f"promote {service}")
        self._operations.parameters_of(service)
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
        await self._operations.check_image(options)
        await self._check_order(service, image, allow_rewritten=allow_rewritten)
        return await self._deploy_again(actor, Trigger.PROMOTE, image, options)

    async def _check_order(self, service: str, image: Image, *, allow_rewritten: bool) -> None:
        built = await self._store.runs.get(image.run)
        parameters = self._operations.parameters_of(service).model_dump(mode="json")
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
        self._operations.require(actor, Role.APPROVER, f"hold {service}")
        self._operations.parameters_of(service)
        return await self._store.deployments.set_hold(service, why=why, by=actor.name, commit=None, origin=actor.origin)

    async def release(self, actor: Actor, service: str) -> None:
        self._operations.require(actor, Role.APPROVER, f"release {service}")
        self._operations.parameters_of(service)
        if not await self._store.deployments.end_hold(service, by=actor.name, origin=actor.origin):
            raise RefusedError(f"{service} is not on hold")
