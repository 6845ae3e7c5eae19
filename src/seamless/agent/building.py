"""The build stage, with what it needs of the store: an image that is there is not built again."""

from __future__ import annotations

import dataclasses

from seamless.agent.resources import Resources
from seamless.errors import InterruptedStageError
from seamless.model import Image, Run, Trust, short
from seamless.stages import StageContext, StageResult
from seamless.stages.build import BuildPlan, build_image, clear_build, find_built, image_tag, plan_build
from seamless.stages.registry import image_available


async def perform_build(context: StageContext, resources: Resources) -> StageResult:
    run, parameters = context.run, context.parameters
    registry = await resources.registries.of_service(parameters)
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
        registry=None if registry is None else registry.prefix,
        installation=context.installation,
        rebuild=run.options.rebuild,
    )
    auth = await resources.registries.auth(run.trust, *([] if registry is None else [registry.host]))
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
    if registry is not None and registry.access is not None:
        tags = _tags(plan, run, context.stage.attempt)
        made, tag = await resources.registries.ready(registry, run.service, tags, since=run.created_at)
        plan = dataclasses.replace(plan, tag=tag)
        if made:
            await context.line(f"made the repository {plan.repository} in ECR")
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


def _tags(plan: BuildPlan, run: Run, attempt: int) -> list[str]:
    """What the image may be called, where tags are immutable: one that another build took is a rebuild's."""
    rebuilt = image_tag(run.commit, run.id, run.number, run.trust, rebuild=True)
    return list(dict.fromkeys([plan.tag, rebuilt, f"{rebuilt}.{attempt}"]))


def _note(plan: BuildPlan) -> str:
    return f"pushed to {plan.repository}" if plan.push else "kept in this engine"


def _result(image: Image, note: str) -> StageResult:
    return StageResult({"image": image.id, "digest": image.ref.digest, "ref": image.ref.pullable, "note": note})
