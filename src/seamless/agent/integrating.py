"""The integration_test stage, with what it needs of the store: the other services as deployed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seamless.agent.resources import Resources
from seamless.agent.store import Store
from seamless.errors import InterruptedStageError, ProgrammingError
from seamless.executors.builder import compose_cli
from seamless.model import Environment, StageName, short
from seamless.stages import StageContext, StageResult
from seamless.stages.compose import resolve_model, run_integration
from seamless.stages.compose_clearing import clear_project
from seamless.stages.compose_file import ComposeFile, read_compose_file
from seamless.stages.integration import Peer, PeerImage, find_peers, plan_integration, project_name
from seamless.stages.registry import registry_host

_Resolved = tuple[ComposeFile, Mapping[str, Any]]


class Integrator:
    """Performs the stage. What Compose makes of the file can be asked for while the checks still run."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._ahead: dict[str, tuple[Path, _Resolved]] = {}  # by run, with the checkout that it is of

    async def resolve_ahead(self, context: StageContext) -> None:
        """For a file in the run's own repository."""
        test = context.parameters.integration_test
        if test is not None and test.repo is None:
            checkout, folder = await _checkout(context)
            self._ahead[context.run.id] = checkout, await _resolve(context, checkout, folder)

    def forget(self, run: str) -> None:
        """What was made ahead for a run is not needed, or not true any more."""
        self._ahead.pop(run, None)

    async def perform(self, context: StageContext) -> StageResult:
        return await _perform(context, self._resources, self._ahead.pop(context.run.id, None))


async def _perform(context: StageContext, resources: Resources, ahead: tuple[Path, _Resolved] | None) -> StageResult:
    run, parameters = context.run, context.parameters
    test = parameters.integration_test
    assert test is not None, "a stage without parameters is skipped, see `skip_reason`"
    attempt = context.stage.attempt
    if context.resumed:
        await clear_project(project_name(context.installation, run.id, attempt))
        raise InterruptedStageError("the agent was stopped during the integration test")
    checkout, folder = await _checkout(context)
    if ahead is not None and ahead[0] == checkout:
        file, resolved = ahead[1]
    else:
        file, resolved = await _resolve(context, checkout, folder)
    services = resources.config().services
    named = find_peers(resolved.get("services") or {}, test.map, {*services, run.service})
    images = await _images(context, set(named.values()), resources.store)
    plan = await asyncio.to_thread(
        plan_integration,
        resolved,
        file=file,
        checkout=checkout,
        test_service=test.test_service,
        named=named,
        images=images,
        service=run.service,
        installation=context.installation,
        run=run.id,
        attempt=attempt,
        trust=run.trust,
        limits=parameters.limits,
    )
    for note in plan.notes:
        await context.line(note)
    for peer in plan.peers:
        await context.line(f"{peer.compose_service}: {_told(peer)}")
    await run_integration(
        plan,
        spool=context.spool,
        registry_auth=await resources.registries.auth(run.trust, *_hosts(images)),
        work_dir=_work_dir(context),
        timeout_s=parameters.stage_timeout,
        line=context.line,
    )
    return StageResult(plan.evidence)


async def _resolve(context: StageContext, checkout: Path, folder: str) -> _Resolved:
    """The Compose file, and what Compose makes of it."""
    test = context.parameters.integration_test
    assert test is not None
    _, version = await compose_cli()
    file = await asyncio.to_thread(read_compose_file, checkout, test.compose_file, folder=folder, version=version)
    return file, await resolve_model(file, work_dir=_work_dir(context))


def _work_dir(context: StageContext) -> Path:
    work = context.work / f"integration_test.{context.stage.attempt}"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    return work


async def _checkout(context: StageContext) -> tuple[Path, str]:
    """The checkout that holds the Compose file, and the folder in it that the file's path counts from."""
    test = context.parameters.integration_test
    assert test is not None
    if test.repo is None:
        return await context.workspaces.checked_out(context.run), context.parameters.path
    other = await context.workspaces.checkout_other(context.run, context.stage, test.repo, test.branch, context.spool)
    return other.files, test.path


async def _images(context: StageContext, services: set[str], store: Store) -> dict[str, PeerImage]:
    """The candidate, and the others as production has them, else staging, else the newest that may be deployed."""
    found = {service: await _deployed(service, store) for service in services - {context.run.service}}
    images = {service: image for service, image in found.items() if image is not None}
    if context.run.service in services:
        images[context.run.service] = await _candidate(context, store)
    return images


def _told(peer: Peer) -> str:
    """Where a Compose service's image comes from; the whole digest is kept with the run."""
    if peer.commit is None or peer.digest is None:
        return "as the Compose file says"
    return f"{peer.source} {short(peer.commit)} ({peer.digest[:19]})"


def _hosts(images: Mapping[str, PeerImage]) -> set[str]:
    """The registries that the images are pulled from."""
    return {registry_host(one.ref.repository) for one in images.values() if one.ref.repository is not None}


async def _deployed(service: str, store: Store) -> PeerImage | None:
    for environment in (Environment.PRODUCTION, Environment.STAGING):
        current = await store.deployments.current(service, environment)
        if current is not None:
            return PeerImage(current.image, current.commit, environment)
    built = await store.images.newest_trusted(service)
    return None if built is None else PeerImage(built.ref, built.commit, "build")


async def _candidate(context: StageContext, store: Store) -> PeerImage:
    build = context.run.stage(StageName.BUILD)
    image = None if build is None else await store.images.get(build.detail["image"])
    if image is None:
        raise ProgrammingError(f"{context.run.id} has built no image")
    return PeerImage(image.ref, image.commit, "candidate")
