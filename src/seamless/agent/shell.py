"""`seamless shell`: a terminal in a new container, on a view of its own over a stage's workspace."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from pathlib import PurePosixPath
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from seamless.agent.access import Role
from seamless.agent.answers import error_response
from seamless.agent.operations import Operations
from seamless.agent.peer import peer
from seamless.agent.resources import Resources
from seamless.config import Parameters
from seamless.errors import RefusedError, SeamlessError, UsageError
from seamless.executors import LABEL_ROLE, LABEL_RUN, LABEL_STAGE, ImageMissingError, Limits, Shell, ShellSpec
from seamless.model import COMMAND_STAGES, Run, Stage
from seamless.stages import WORKSPACE
from seamless.transitions import StageState

_log = logging.getLogger(__name__)


async def serve_shell(
    socket: WebSocket,
    resources: Resources,
    operations: Operations,
    name: str,
    stage: str | None,
    rows: int,
    columns: int,
) -> None:
    """Serves one terminal until either side ends it. The close reason is the shell's exit code."""
    shell_id = f"shell-{secrets.token_hex(6)}"
    try:
        actor = await asyncio.to_thread(peer, socket)
        operations.require(actor, Role.ADMIN, "open a shell")
        run = await operations.find_run(name)
        chosen = choose_stage(run, stage)
        await operations.audit(actor, "shell", run, {"stage": chosen.name})
        spec = await _plan(resources, run, chosen, shell_id)
        shell = await resources.executor.open_shell(spec)
    except ImageMissingError as error:
        await socket.send_denial_response(error_response(RefusedError(f"the stage's image is gone: {error}")))
        return
    except SeamlessError as error:
        await resources.workspaces.close_shell(shell_id)
        await socket.send_denial_response(error_response(error))
        return
    await socket.accept()
    exit_code: int | None = None
    try:
        await shell.resize(rows, columns)
        exit_code = await _connect(socket, shell, resources, spec.name)
    finally:
        await asyncio.shield(_close(resources, shell, shell_id))
    if exit_code is not None:
        await socket.close(1000, str(exit_code))


def choose_stage(run: Run, wanted: str | None) -> Stage:
    """The stage that was named, else the one that failed. Raises UsageError or RefusedError."""
    if wanted is not None:
        stage = next((stage for stage in run.stages if stage.name == wanted), None)
        if stage is None or stage.name not in COMMAND_STAGES:
            raise UsageError(f"{run.id} has no stage {wanted} to look into", hint=f"one of {', '.join(COMMAND_STAGES)}")
    else:
        failed = [s for s in run.stages if s.state is StageState.FAILURE and s.name in COMMAND_STAGES]
        if not failed:
            raise UsageError(f"no command of {run.id} failed", hint=f"name a stage: {', '.join(COMMAND_STAGES)}")
        stage = failed[0]
    if stage.state not in (StageState.FAILURE, StageState.SUCCESS):
        raise RefusedError(f"{stage.name} of {run.id} is {stage.state}: there is no workspace to look into")
    return stage


async def _plan(resources: Resources, run: Run, stage: Stage, shell_id: str) -> ShellSpec:
    parameters = Parameters.model_validate(run.parameters)
    if parameters.image is None:
        raise RefusedError(f"{run.service} has no image to open a shell in")
    mounts = await resources.workspaces.open_for_shell(run, stage, shell_id)
    environment = {"CI": "true", "SEAMLESS_RUN": run.id, "SEAMLESS_STAGE": stage.name, "TERM": "xterm-256color"}
    return ShellSpec(
        name=f"seamless-{resources.installation}-{shell_id}",
        image=parameters.image,
        workdir=str(PurePosixPath(WORKSPACE, parameters.path)),
        env={**parameters.env, **environment},
        user=parameters.user,
        mounts=mounts,
        labels={LABEL_RUN: run.id, LABEL_STAGE: stage.name, LABEL_ROLE: "shell"},
        limits=Limits(cpus=parameters.limits.cpus, memory=parameters.limits.memory, pids=parameters.limits.pids),
    )


async def _connect(socket: WebSocket, shell: Shell, resources: Resources, container: str) -> int | None:
    """Copies both ways; the exit code once the shell has ended, None when the client has gone."""

    async def from_client() -> None:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await shell.write(message["bytes"])
            elif (size := _size_of(message.get("text") or "")) is not None:
                await shell.resize(*size)

    async def to_client() -> None:
        while data := await shell.read():
            await socket.send_bytes(data)

    sides = [asyncio.create_task(from_client()), asyncio.create_task(to_client())]
    try:
        await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        if not sides[1].done():
            return None
        if sides[1].exception() is not None:
            return None
        return (await resources.executor.wait(container)).exit_code
    except WebSocketDisconnect:
        return None
    finally:
        for side in sides:
            side.cancel()
        await asyncio.gather(*sides, return_exceptions=True)


def _size_of(text: str) -> tuple[int, int] | None:
    """A resize message, when it is one and makes sense."""
    try:
        message: Any = json.loads(text)
        rows, columns = int(message["rows"]), int(message["columns"])
    except (ValueError, TypeError, KeyError):
        return None
    return (rows, columns) if 0 < rows < 10000 and 0 < columns < 10000 else None


async def _close(resources: Resources, shell: Shell, shell_id: str) -> None:
    try:
        await shell.close()
        await resources.workspaces.close_shell(shell_id)
    except SeamlessError:
        _log.exception("the shell %s could not be cleaned up; the next start of the agent does", shell_id)
