"""code_quality and unit_test: a command each, on a view of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from seamless.errors import StageError
from seamless.model import StageName
from seamless.stages import StageContext, StageResult, junit
from seamless.stages.artifacts import keep_artifacts
from seamless.stages.commands import create_ahead, image_of, run_script

_REPORT_LIMIT: Final = 32 * 2**20  # bytes of JUnit XML that are read of one stage


async def perform(context: StageContext) -> StageResult:
    parameters = context.parameters
    unit_test = context.stage.name is StageName.UNIT_TEST
    script = _script(context)
    image = await image_of(context)
    workspace = await context.workspaces.open(context.run, context.stage, parameters, image)

    async def evidence() -> dict[str, Any]:
        folder = workspace.upper / parameters.path
        patterns = parameters.artifacts.get("unit_test" if unit_test else "code_quality", [])
        kept = await asyncio.to_thread(keep_artifacts, folder, patterns, context.artifacts)
        if not (unit_test and parameters.junit):
            return kept
        return kept | await asyncio.to_thread(_summarise, folder, parameters.junit)

    try:
        await run_script(context, script, image, workspace)
    except StageError as error:
        error.detail.update(await evidence())
        raise
    return StageResult(detail=await evidence())


async def make_ahead(context: StageContext) -> None:
    """While prepare runs: the container that `perform` will start."""
    await create_ahead(context, _script(context))


def _script(context: StageContext) -> str:
    parameters = context.parameters
    script = parameters.unit_test if context.stage.name is StageName.UNIT_TEST else parameters.code_quality
    assert script is not None, "a stage without a command is skipped, see `skip_reason`"
    return script


def _summarise(folder: Path, patterns: list[str]) -> dict[str, Any]:
    """The stage's JUnit reports, as evidence. What the stage's user cannot show us is told, not guessed."""
    contents: list[bytes] = []
    left = _REPORT_LIMIT
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            continue
        try:
            content = path.read_bytes() if path.stat().st_size <= left else b""
        except OSError as error:
            return {"tests_note": f"the report {path.name} could not be read: {error.strerror}"}
        left -= len(content)
        contents.append(content)
    if not contents:
        return {"tests_note": f"unit_test wrote no file that matches {', '.join(patterns)}"}
    return {"tests": junit.summarise(contents)}
