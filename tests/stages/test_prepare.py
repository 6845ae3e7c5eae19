"""prepare makes its container beside the checkout, and nothing is being made any more when its verdict is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.test_planning import a_run
from executors.scripted import ScriptedExecutor
from seamless.config import Parameters
from seamless.errors import StageError
from seamless.executors import ContainerSpec
from seamless.model import Run, Stage, StageName
from seamless.stages import Checkout, StageContext, Workspace, prepare

PARAMETERS = {"repo": "/somewhere", "image": "busybox", "install": "true", "unit_test": "true"}
STAGES = (StageName.PREPARE, StageName.CODE_QUALITY, StageName.UNIT_TEST)


class _Engine(ScriptedExecutor):
    """One that takes its time: a container is made when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def create(self, spec: ContainerSpec) -> None:
        self.asked.set()
        await self.go_on.wait()
        await super().create(spec)


class _Workspaces:
    """Those of a repository without the commit; the checkout fails once the container is being made."""

    def __init__(self, engine: _Engine, upper: Path) -> None:
        self._engine = engine
        self._upper = upper

    async def claim(self, run: Run, attempt: int, spool: Path) -> Callable[[], Awaitable[Checkout]]:
        async def check_out() -> Checkout:
            await self._engine.asked.wait()
            raise StageError("the commit is gone")

        return check_out

    async def open(self, run: Run, stage: Stage, parameters: Parameters, image: str) -> Workspace:
        return Workspace((), self._upper, 0)


class _Journal:
    def get(self, key: str) -> Any:
        return None

    async def record(self, **entries: Any) -> None: ...


async def _line(text: str) -> None: ...


def _context(name: StageName, executor: ScriptedExecutor, folder: Path, **parameters: str) -> StageContext:
    run = a_run(STAGES)
    stage = run.stage(name)
    assert stage is not None
    return StageContext(
        run=run,
        stage=stage,
        parameters=Parameters.model_validate({**PARAMETERS, **parameters}),
        resumed=False,
        spool=folder / "out",
        journal=_Journal(),
        line=_line,
        workspace_ready=lambda: None,
        installation="0badcafe",
        executor=executor,
        workspaces=_Workspaces(executor, folder),  # type: ignore[arg-type]
        secrets={},
        redact=lambda value: value,
        ca_bundle=None,
        work=folder,
        artifacts=folder / "artifacts",
    )


def test_a_checkout_that_fails_waits_for_the_container_that_is_being_made(tmp_path: Path) -> None:
    async def main() -> None:
        engine = _Engine()
        preparing = asyncio.create_task(prepare.perform(_context(StageName.PREPARE, engine, tmp_path)))
        await engine.asked.wait()
        await asyncio.sleep(0)  # the checkout fails in this turn
        assert not preparing.done()
        engine.go_on.set()
        with pytest.raises(StageError, match="the commit is gone"):
            await preparing
        (container,) = engine._containers.values()
        assert container.ended is None, "it was started though nothing is checked out"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("parameters", "followers"),
    [({"code_quality": "true"}, [StageName.CODE_QUALITY]), ({}, [StageName.UNIT_TEST])],
)
def test_the_first_of_the_checks_follows_prepare(
    parameters: dict[str, str], followers: list[StageName], tmp_path: Path
) -> None:
    contexts = [_context(name, _Engine(), tmp_path, **parameters) for name in STAGES]
    following = [context for context in contexts if context.follows is not None]
    assert [context.stage.name for context in following] == followers
    assert following[0].follows == contexts[0].container_name
