"""Runs a Compose project for integration tests, and takes it down when it is cut short.

Compose starts everything but the tests, detached. The tests are then started with the engine's own client,
attached: their output comes from the first byte on and as it is, and their exit code cannot be taken for one
of Compose's. (`up --exit-code-from` ends when any container ends, a migration that is done for instance, and
its exit code 1 can mean that something never started.) What the others printed follows at the end, whole.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from seamless import programs
from seamless.config import format_duration
from seamless.crashpoints import crash_point
from seamless.errors import InterruptedStageError, StageError, UnavailableError
from seamless.executors.builder import compose_cli, docker_cli
from seamless.programs import Program, ProgramTimeoutError
from seamless.stages.build_failure import explain_build_failure, is_engine_lost
from seamless.stages.compose_clearing import clear_project
from seamless.stages.compose_containers import ProjectContainer, find_containers, join_networks
from seamless.stages.compose_file import ComposeFile
from seamless.stages.integration import IntegrationPlan
from seamless.stages.registry import (
    RegistryAuth,
    client_environment,
    read_tail,
    write_private,
)

_SHORT_CALL_S: Final = 60.0
_LOGS_S: Final = 60.0
_POLL_S: Final = 0.3
# Compose must not fetch files from elsewhere, nor ask questions.
_COMPOSE_ENVIRONMENT: Final = {
    "COMPOSE_DOCKER_CLI_BUILD": "1",
    "COMPOSE_EXPERIMENTAL_GIT_REMOTE": "false",
    "COMPOSE_EXPERIMENTAL_OCI_REMOTE": "false",
    "COMPOSE_INTERACTIVE_NO_CLI": "1",
    "COMPOSE_MENU": "false",
    "DOCKER_BUILDKIT": "1",
    "BUILDKIT_PROGRESS": "plain",
}

Line = Callable[[str], Awaitable[None]]
"""Appends a line of Seamless's own to the stage's log."""


async def resolve_model(file: ComposeFile, *, work_dir: Path) -> Mapping[str, Any]:
    """What Compose makes of a file that was read by `read_compose_file`, from an empty environment.

    Raises StageError with Compose's own words when it refuses the file.
    """
    command, _ = await compose_cli()
    docker = await docker_cli()
    with client_environment(work_dir, {}, docker) as environment:
        nothing = Path(environment["DOCKER_CONFIG"], "no.env")  # instead of the checkout's .env
        write_private(nothing, b"")
        arguments = ["--file", str(file.path), "--project-directory", str(file.folder), "--env-file", str(nothing)]
        kept = {name: environment[name] for name in ("PATH", "LC_ALL", "DOCKER_CONFIG")}
        program = Program(
            [*command, *arguments, "--project-name", "seamless", "config"], {**_COMPOSE_ENVIRONMENT, **kept}
        )
        try:
            captured = await programs.capture(program, timeout_s=_SHORT_CALL_S)
        except ProgramTimeoutError:
            raise StageError(f"Compose did not get through {file.shown} in {_SHORT_CALL_S:g} s") from None
    if captured.exit_code != 0:
        words = " ".join(captured.stderr.decode(errors="replace").replace(str(file.folder), ".").split())
        raise StageError(f"Compose refuses {file.shown}: {words[-600:] or f'exit code {captured.exit_code}'}")
    model = await asyncio.to_thread(yaml.load, captured.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(model, Mapping) or not model.get("services"):
        raise StageError(f"{file.shown} holds no services")
    return model


async def run_integration(
    plan: IntegrationPlan,
    *,
    spool: Path,
    registry_auth: RegistryAuth,
    work_dir: Path,
    timeout_s: float,
    line: Line,
) -> None:
    """Runs the tests of a project. Returns when they have passed: `clear_project` is left to the caller, whom it need
    not keep. When they have not, or when cancelled, the project is gone before that is told.

    `work_dir` is a folder of this attempt; it is removed. Raises StageError (with the tests' exit code,
    or with the name of what never became ready) and InterruptedStageError when the engine went away.
    """
    command, _ = await compose_cli()
    docker = await docker_cli()
    with client_environment(work_dir, registry_auth, docker) as environment:
        calls = [*command, "--ansi", "never", "--file", "-", "--project-directory", str(work_dir)]
        project = _Project(plan, [*calls, "--project-name", plan.project], docker, environment, spool, line)
        try:
            await project.run(timeout_s)
        except BaseException:
            await _to_its_end(_clear(plan.project, line))
            raise
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)
        crash_point("integration:after_tests")


@dataclass(slots=True)
class _Project:
    """A project while it runs."""

    plan: IntegrationPlan
    compose: Sequence[str]
    docker: str
    environment: Mapping[str, str]
    spool: Path
    line: Line
    doing: str = "preparing"
    seen: Sequence[ProjectContainer] = ()  # when the engine was asked last

    async def run(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.perform()
        except TimeoutError:
            await self.print_logs()
            raise StageError(f"timed out after {format_duration(timeout_s)} while {self.doing}") from None
        except StageError:
            await self.print_logs()
            raise
        await self.print_logs()

    async def perform(self) -> None:
        plan = self.plan
        if plan.built:
            self.doing = f"building {', '.join(plan.built)}"
            await self.call("build", *plan.built, failure=explain_build_failure)
        # Compose of Python takes half a second to start: the second call does so beside the first one.
        begin: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        create = ("up", "--no-start", "--no-deps", "--no-color", "--no-build", plan.test_service)
        creating = asyncio.create_task(self.call(*create, model=begin))
        try:
            if plan.others:
                self.doing = f"starting {', '.join(plan.others)}"
                code, printed = await self.compose_call("up", "--detach", "--no-color", "--no-build", *plan.others)
                if code != 0:
                    raise await self.never_ready(printed)
                crash_point("integration:after_start")
            begin.set_result(self.model)
            await self.wait_until_ready()
            self.doing = f"starting {plan.test_service}"
            await creating
        finally:
            creating.cancel()
            await asyncio.gather(creating, return_exceptions=True)
        self.doing = f"running {plan.test_service}"
        await self.run_tests()

    async def wait_until_ready(self) -> None:
        """What the tests wait for. Compose would do it with the tests' start, but not say as much about a failure."""
        waiting = {name: condition for name, condition in self.plan.waits_for.items() if condition in _CONDITIONS}
        if waiting:
            await self.line(
                f"waiting for {', '.join(f'{name} to be {_CONDITIONS[waiting[name]]}' for name in waiting)}"
            )
        while waiting:
            self.doing = f"waiting for {', '.join(waiting)}"
            containers = await self.containers()
            for name, condition in list(waiting.items()):
                own = [each for each in containers if each.service == name]
                if own and all(_is_ready(each, condition) for each in own):
                    del waiting[name]
            if waiting:
                await asyncio.sleep(_POLL_S)

    async def run_tests(self) -> None:
        tests = [each for each in await self.containers() if each.service == self.plan.test_service]
        if not tests:
            raise StageError(f"Compose made no container for {self.plan.test_service}")
        attachments = self.plan.model["services"][self.plan.test_service].get("networks", {})
        await join_networks(self.plan.project, tests[0], attachments)
        code = await programs.run(
            Program([self.docker, "container", "start", "--attach", tests[0].id], self.environment), output=self.spool
        )
        containers = await self.containers()
        ended = next((each for each in containers if each.id == tests[0].id), None)
        if ended is None or not (ended.ended or ended.error):
            raise InterruptedStageError("the engine went away during the tests")
        if ended.error:
            raise StageError(f"{self.plan.test_service} could not be started: {ended.error}", exit_code=ended.exit_code)
        if code != ended.exit_code:
            raise InterruptedStageError("the tests were ended by the engine, not by themselves")
        if ended.out_of_memory:
            raise StageError("out of memory", exit_code=ended.exit_code)
        if ended.exit_code != 0:
            failed = [
                f"{each.service} had ended with {_end_of(each)}"
                for each in containers
                if each.service != self.plan.test_service and each.ended and (each.exit_code or each.out_of_memory)
            ]
            raise StageError("; ".join([f"exit code {ended.exit_code}", *failed]), exit_code=ended.exit_code)

    async def never_ready(self, printed: str) -> StageError:
        """Compose started not everything: says which service it was, as far as the engine knows."""
        if is_engine_lost(printed):
            return InterruptedStageError("the engine went away")
        for each in await self.containers():
            if each.error:
                return StageError(f"{each.service} could not be started: {each.error}")
            if each.health == "unhealthy":
                return StageError(f"{each.service} never became healthy: {_probe(each)}")
            if each.ended and (each.exit_code or each.out_of_memory):
                return StageError(f"{each.service} never became ready: it ended with {_end_of(each)}")
        return StageError(f"Compose could not start the services: {_last_words(printed)}")

    @property
    def model(self) -> bytes:
        """The project's file, which Compose reads from its standard input."""
        return json.dumps(self.plan.model).encode()

    async def call(
        self,
        *arguments: str,
        model: Awaitable[bytes] | None = None,
        failure: Callable[[str], str] | None = None,
    ) -> None:
        code, printed = await self.compose_call(*arguments, model=model)
        if code == 0:
            return
        if is_engine_lost(printed):
            raise InterruptedStageError("the engine went away")
        raise StageError(failure(printed) if failure else f"Compose failed: {_last_words(printed)}", exit_code=code)

    async def compose_call(self, *arguments: str, model: Awaitable[bytes] | None = None) -> tuple[int, str]:
        """(exit code, the end of what it printed). A `model` that is awaited holds it back until then."""
        start = self.spool.stat().st_size
        environment = {**self.environment, **_COMPOSE_ENVIRONMENT}
        program = Program([*self.compose, *arguments], environment, stdin=model or self.model)
        return await programs.run(program, output=self.spool), read_tail(self.spool, start)

    async def print_logs(self) -> None:
        """What the other services printed, to the log. A lack of it changes no verdict."""
        if not self.plan.others:
            return
        try:
            for each in sorted(self.seen or await self.containers(), key=lambda each: each.service):
                if each.service in self.plan.others:
                    await self.line(f"output of {each.service}:")
                    program = Program([self.docker, "container", "logs", each.id], self.environment)
                    await programs.run(program, output=self.spool, timeout_s=_LOGS_S)
        except ProgramTimeoutError:
            await self.line(f"(not all of it: reading took more than {_LOGS_S:g} s)")
        except InterruptedStageError as error:
            await self.line(f"({error.message})")

    async def containers(self) -> Sequence[ProjectContainer]:
        self.seen = await find_containers(self.plan.project)
        return self.seen


_CONDITIONS: Final = {"service_healthy": "healthy", "service_completed_successfully": "done"}


def _is_ready(container: ProjectContainer, condition: str) -> bool:
    """Raises StageError when it can never be."""
    name = container.service
    if condition == "service_completed_successfully":
        if container.ended and (container.exit_code or container.out_of_memory):
            raise StageError(f"{name} failed with {_end_of(container)}, and the tests wait for its success")
        return container.ended
    if container.ended:
        raise StageError(f"{name} never became healthy: it ended with {_end_of(container)}")
    if container.health == "unhealthy":
        raise StageError(f"{name} never became healthy: {_probe(container)}")
    if container.health is None:
        raise StageError(f"the tests wait for {name} to be healthy, and it has no health check")
    return container.health == "healthy"


def _end_of(container: ProjectContainer) -> str:
    return "out of memory" if container.out_of_memory else f"exit code {container.exit_code}"


def _probe(container: ProjectContainer) -> str:
    return f"its health check said {_last_words(container.probe)}" if container.probe.strip() else "it is unhealthy"


def _last_words(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR" in line or "rror:" in line or "rror response" in line]
    return (telling or lines or ["no message"])[-1].removeprefix("ERROR: ")[:300]


async def _clear(project: str, line: Line) -> None:
    """A verdict is not lost to an engine that went away: what is left carries the run's label and is found later."""
    try:
        await clear_project(project)
    except UnavailableError as error:
        await line(f"the project {project} is not cleared yet: {error.message}")


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Awaits `work` even when this task is cancelled meanwhile, and lets the cancellation through afterwards."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
