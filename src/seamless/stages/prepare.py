"""prepare: exactly the commit, then `install` in a view that the later stages build upon."""

from __future__ import annotations

import asyncio

from seamless.errors import StageError
from seamless.model import StageName
from seamless.stages import Checkout, StageContext, StageResult, Workspace
from seamless.stages.commands import image_of, plan_container, run_script


async def perform(context: StageContext) -> StageResult:
    parameters = context.parameters
    check_out = await context.workspaces.claim(context.run, context.stage.attempt, context.spool)
    if not parameters.install:
        return StageResult({"note": await _told(context, await check_out())})
    image = await image_of(context)
    # A live view shows what its tree has when the container starts: both can be made beside the checkout.
    if parameters.user is None and await context.executor.views_are_live():
        making = asyncio.create_task(_made(context, parameters.install, image))
        try:
            note = await _told(context, await check_out())
            workspace = await making
        finally:  # nothing is made any more when the verdict is known: cleaning begins then
            await asyncio.gather(making, return_exceptions=True)
    else:
        note = await _told(context, await check_out())
        workspace = await _made(context, parameters.install, image)
    context.workspace_ready()
    await run_script(context, parameters.install, image, workspace)
    return StageResult({"note": note})


async def _made(context: StageContext, script: str, image: str) -> Workspace:
    """The view and its container: what is made ahead for the checks takes over the network namespace of that."""
    workspace = await context.workspaces.open(context.run, context.stage, context.parameters, image)
    if not context.journal.get("started"):  # else it is adopted, or was lost
        await context.executor.create(plan_container(context, script, image, workspace))
    return workspace


async def _told(context: StageContext, checkout: Checkout) -> str:
    """The note on what was checked out, in the log too. Raises StageError when the service is not in it."""
    run, path = context.run, context.parameters.path
    files = "1 file" if checkout.changed == 1 else f"{checkout.changed} files"
    note = f"{'kept tree' if checkout.kept else 'new tree'}, {files} changed"
    if not context.resumed:
        if run.options.from_stage not in (None, StageName.PREPARE):  # it would have been kept, see `Operations.rerun`
            note = f"repeated, as the workspace of {run.rerun_of} is gone; {note}"
        await context.line(f"{run.ref} {run.commit}: {note}")
    if not (checkout.files / path).is_dir():
        raise StageError(
            f"the commit has no folder {path}",
            hint=f"services.{run.service}.path names the service's folder in its repository",
        )
    return note
