"""The scripted executor keeps the same rules as the real one; else what is tested with it proves nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seamless.executors import ContainerExit, ContainerGoneError, ContainerSpec, Executor, ImageMissingError, Started

from .scripted import Scene, ScriptedExecutor

pytestmark = pytest.mark.fake


def test_it_keeps_the_rules(tmp_path: Path) -> None:
    spool = tmp_path / "out"
    stage = ContainerSpec("stage", "image", "true", spool)
    endless = ContainerSpec("endless", "image", "true", spool)
    scripted = ScriptedExecutor(
        scenes={"stage": Scene(ContainerExit(3), 0.05, "said\n"), "endless": Scene(delay_s=None)},
        missing=frozenset({"none"}),
    )
    executor: Executor = scripted

    async def main() -> None:
        await executor.create(stage)
        assert [await executor.start(stage), await executor.start(stage)] == [Started.NOW, Started.RUNNING]
        assert await executor.wait("stage") == ContainerExit(3)
        assert await executor.start(stage) is Started.ENDED
        await executor.start(endless)
        assert [found.running for found in await executor.find()] == [False, True]
        await executor.stop("endless", grace_s=1)
        assert await executor.wait("endless") == ContainerExit(143)
        for _ in range(2):
            await executor.remove("stage")
        assert not await executor.exists("stage")
        with pytest.raises(ContainerGoneError):
            await executor.wait("stage")
        with pytest.raises(ImageMissingError):
            await executor.start(ContainerSpec("other", "none", "true", spool))

    asyncio.run(main())
    assert spool.read_text() == "said\n"
    assert scripted.calls[:3] == [("create", "stage"), ("start", "stage"), ("start", "stage")]
