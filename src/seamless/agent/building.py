"""The build stage, with what it needs of the store: an image that is there is not built again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from seamless.agent.resources import Resources
from seamless.config import Registry
from seamless.errors import InterruptedStageError
from seamless.model import Image, Trust, short
from seamless.secretrefs import resolve_all
from seamless.stages import StageContext, StageResult
from seamless.stages.build import BuildPlan, build_image, clear_build, find_built, plan_build
from seamless.stages.registry import Credentials, RegistryAuth, image_available


async def registry_auth(registries: Mapping[str, Registry], trust: Trust) -> RegistryAuth:
    """The credentials of `[registries]`, resolved now; none for what a stranger wrote, which could name any image.

    Raises as `resolve_all`.
    """
    if trust is Trust.UNTRUSTED:
        return {}
    passwords = await asyncio.to_thread(resolve_all, {host: one.password for host, one in registries.items()})
    return {host: Credentials(registry.username, passwords[host]) for host, registry in registries.items()}


async def perform_build(context: StageContext, resources: Resources) -> StageResult:
    run, parameters = context.run, context.parameters
    plan = plan_build(
        service=run.service,
        commit=run.commit,
        run=run.id,
        number=run.number,
        attempt=context.stage.attempt,
        trust=run.trust,
        tree=await context.workspaces.checked_out(run),
        path=parameters.path,
        build=parameters.build,
        registry=parameters.registry,
        installation=context.installation,
        rebuild=run.options.rebuild,
    )
    auth = await registry_auth(resources.config().registries, run.trust)
    if run.trust is Trust.TRUSTED and not run.options.rebuild:
        known = await resources.store.images.reusable(run.service, run.commit, plan.key)
        where = plan.repository if plan.push else None
        if known is not None and known.ref.repository == where and await image_available(known.ref, auth):
            await context.line(f"the image of {short(run.commit)} that {known.run} built is used again")
            return _result(known, f"built by {known.run}")
    work = context.work / f"build.{context.stage.attempt}"
    if context.resumed and await find_built(plan) is None:
        await clear_build(plan, work)
        raise InterruptedStageError("the agent was stopped during the build")
    built = await build_image(
        plan,
        spool=context.spool,
        secrets=context.secrets,
        registry_auth=auth,
        work_dir=work,
        timeout_s=parameters.stage_timeout,
    )
    image = await resources.store.images.add(
        service=run.service,
        commit=run.commit,
        ref=built.ref,
        tag=built.tag,
        run=run.id,
        build_key=plan.key,
        trusted=run.trust is Trust.TRUSTED,
    )
    return _result(image, _note(plan))


def _note(plan: BuildPlan) -> str:
    return f"pushed to {plan.repository}" if plan.push else "kept in this engine"


def _result(image: Image, note: str) -> StageResult:
    return StageResult({"image": image.id, "digest": image.ref.digest, "ref": image.ref.pullable, "note": note})
