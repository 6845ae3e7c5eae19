"""prepare: exactly the commit, then `install` in a view that the later stages build upon."""

from __future__ import annotations

from seamless.errors import StageError
from seamless.model import StageName
from seamless.stages import StageContext, StageResult
from seamless.stages.commands import image_of, plan_container, run_script


async def perform(context: StageContext) -> StageResult:
    run, parameters = context.run, context.parameters
    checkout = await context.workspaces.checkout(run, context.stage.attempt, context.spool)
    files = "1 file" if checkout.changed == 1 else f"{checkout.changed} files"
    note = f"{'kept tree' if checkout.kept else 'new tree'}, {files} changed"
    if not context.resumed:
        if run.options.from_stage not in (None, StageName.PREPARE):  # it would have been kept, see `Operations.rerun`
            note = f"repeated, as the workspace of {run.rerun_of} is gone; {note}"
        await context.line(f"{run.ref} {run.commit}: {note}")
    if not (checkout.files / parameters.path).is_dir():
        raise StageError(
            f"the commit has no folder {parameters.path}",
            hint=f"services.{run.service}.path names the service's folder in its repository",
        )
    if parameters.install:
        image = await image_of(context)
        workspace = await context.workspaces.open(run, context.stage, parameters, image)
        await context.executor.create(plan_container(context, parameters.install, image, workspace))
        context.workspace_ready()  # now, so that what is made ahead knows whose network namespace to take over
        await run_script(context, parameters.install, image, workspace)
    return StageResult(detail={"note": note})
