"""An interactive shell: a real terminal in a real container."""

from __future__ import annotations

import asyncio

import pytest

from seamless.errors import StageError
from seamless.executors import Limits, Shell, ShellSpec
from seamless.executors.docker import DockerExecutor

from .conftest import Place

pytestmark = pytest.mark.engine


async def _until_shown(shell: Shell, words: bytes) -> bytes:
    shown = b""
    async with asyncio.timeout(60):
        while words not in shown:
            piece = await shell.read()
            assert piece, shown
            shown += piece
    return shown


def test_a_person_types_and_sees(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        spec = ShellSpec(
            place.name("shop-1-shell"), place.image, env={"STAGE": "unit_test"}, user="app", limits=Limits(pids=64)
        )
        shell = await executor.open_shell(spec)
        await shell.resize(33, 111)
        await shell.write(b'echo "$STAGE $(id -u) $TERM $(stty size) $PWD" | tr a-z A-Z\n')
        await _until_shown(shell, b"UNIT_TEST 1234 XTERM-256COLOR 33 111 /WORKSPACE")
        assert place.inspect(spec.name)["HostConfig"]["PidsLimit"] == 64
        assert len(place.containers("shell")) == 1
        await shell.write(b"exit\n")
        async with asyncio.timeout(60):
            while await shell.read():
                pass
        await shell.write(b"nobody reads this\n")
        await shell.resize(1, 1)
        await shell.close()
        assert place.left() == []

    place.run(body)


def test_closing_ends_what_still_runs(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        shell = await executor.open_shell(ShellSpec(place.name("shop-1-shell"), place.image))
        await shell.write(b"echo up; sleep 60\n")
        await _until_shown(shell, b"\nup")
        await shell.close()
        assert await shell.read() == b""
        assert place.left() == []

    place.run(body)


def test_a_shell_that_cannot_start_leaves_nothing(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        with pytest.raises(StageError, match="cannot start"):
            await executor.open_shell(ShellSpec(place.name("shop-1-shell"), place.image, user="who"))
        assert place.left() == []

    place.run(body)
