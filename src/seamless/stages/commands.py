"""Stages that run a shell script in the service's image: `install`, `code_quality`, `unit_test`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from seamless.crashpoints import crash_point
from seamless.errors import InterruptedStageError, StageError
from seamless.executors import (
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_STAGE,
    ContainerExit,
    ContainerGoneError,
    ContainerSpec,
    ImageMissingError,
    Limits,
    Mount,
)
from seamless.model import StageName
from seamless.stages import WORKSPACE, StageContext, Workspace

_KILLED: Final = 137  # what a shell makes of SIGKILL
_CA_TARGET: Final = "/etc/ssl/certs/ca-certificates.crt"
_CA_VARIABLES: Final = (
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)


def stage_environment(context: StageContext) -> dict[str, str]:
    """What a command knows: CI=true, SEAMLESS_*, the service's `env` and secrets; nothing else of the host."""
    run = context.run
    about = {
        "CI": "true",
        "SEAMLESS": "true",
        "SEAMLESS_RUN": run.id,
        "SEAMLESS_SERVICE": run.service,
        "SEAMLESS_STAGE": context.stage.name,
        "SEAMLESS_ATTEMPT": str(context.stage.attempt),
        "SEAMLESS_COMMIT": run.commit,
        "SEAMLESS_REF": run.ref,
        "SEAMLESS_TRIGGER": run.trigger,
    }
    certificates = {} if context.ca_bundle is None else dict.fromkeys(_CA_VARIABLES, _CA_TARGET)
    return {**certificates, **context.parameters.env, **context.secrets, **about}


def plan_container(context: StageContext, script: str, image: str, workspace: Workspace) -> ContainerSpec:
    """The container of this attempt."""
    parameters = context.parameters
    host_files = [Mount(str(source), str(target), read_only=True) for target, source in parameters.files.items()]
    if context.ca_bundle is not None and _CA_TARGET not in parameters.files:
        host_files.append(Mount(str(context.ca_bundle), _CA_TARGET, read_only=True))
    return ContainerSpec(
        name=context.container_name,
        image=image,
        script=script,
        spool=context.spool,
        workdir=str(PurePosixPath(WORKSPACE, parameters.path)),
        env=stage_environment(context),
        user=parameters.user,
        mounts=(*workspace.mounts, *host_files),
        labels={LABEL_RUN: context.run.id, LABEL_STAGE: context.stage.name, LABEL_ROLE: "stage"},
        limits=Limits(cpus=parameters.limits.cpus, memory=parameters.limits.memory, pids=parameters.limits.pids),
        follows=context.follows,
    )


def script_of(context: StageContext) -> str | None:
    """The command of this stage, None when it is not set."""
    match context.stage.name:
        case StageName.PREPARE:
            return context.parameters.install
        case StageName.CODE_QUALITY:
            return context.parameters.code_quality
        case StageName.UNIT_TEST:
            return context.parameters.unit_test
        case other:
            raise AssertionError(f"{other} has no command")


async def image_of(context: StageContext) -> str:
    """The service's image, pulled when it is not here. Raises StageError when there is none to be had."""
    image = context.parameters.image
    if image is None:
        raise StageError(
            f"no image is set to run {context.stage.name} in",
            hint=f'set image = "…" under [pipeline] or [services.{context.run.service}]',
        )
    try:
        await context.executor.ensure_image(image)
    except ImageMissingError as error:
        raise StageError(error.message, hint="check its name, and [registries] if it is private") from error
    return image


async def create_ahead(context: StageContext, script: str) -> None:
    """Makes the container of an attempt that has not started: the attempt then finds it by its name."""
    image = await image_of(context)
    workspace = await context.workspaces.open(context.run, context.stage, context.parameters, image)
    await context.executor.create(plan_container(context, script, image, workspace))


async def run_script(context: StageContext, script: str, image: str, workspace: Workspace) -> None:
    """Runs `script` to its end. Raises StageError when it fails.

    A container that an earlier agent started is adopted: never started twice, its exit code is the verdict.
    """
    spec = plan_container(context, script, image, workspace)
    if context.journal.get("started") and not await context.executor.exists(spec.name):
        raise InterruptedStageError("its container is gone")
    point = f"stage.{context.stage.name}.container"
    try:
        crash_point(f"{point}:before_start")
        await context.executor.start(spec)
        crash_point(f"{point}:after_start")
        if not context.journal.get("started"):
            await context.journal.record(started=True)
        ended = await context.executor.wait(spec.name)
        crash_point(f"{point}:after_exit")
    except ImageMissingError as error:
        raise StageError(f"the image {image} vanished before its container could start: {error}") from error
    except ContainerGoneError as error:
        raise InterruptedStageError("its container was removed by somebody else") from error
    judge(ended, memory=context.parameters.limits.memory)


def judge(ended: ContainerExit, *, memory: int) -> None:
    """Returns when the container's end means success; raises with the reason when it does not."""
    if ended.by_engine:
        raise InterruptedStageError("the engine stopped its container")
    if ended.out_of_memory:
        raise StageError(f"out of memory (limit {memory // 2**20} MiB)", exit_code=ended.exit_code)
    if ended.error:
        raise StageError(ended.error, exit_code=ended.exit_code)
    if ended.exit_code == _KILLED:  # the engine misses some of the kernel's reports on memory
        limit = f"limit {memory // 2**20} MiB"
        raise StageError(f"killed (exit code {_KILLED}), most likely out of memory ({limit})", exit_code=_KILLED)
    if ended.exit_code != 0:
        raise StageError(f"exit code {ended.exit_code}", exit_code=ended.exit_code)
