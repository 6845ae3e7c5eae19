"""What every scenario stands on: an agent of its own, repositories, the scripts beside it, and a stop-watch."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.agents import Agent, stage_of
from harness.engine import docker
from harness.repositories import Repository
from seamless.executors.builder import compose_cli, docker_cli
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON

SCRIPTS = Path(__file__).parent / "scripts"
_QUIET_S = 1.0
_QUIET_WITHIN_S = 300.0  # fifty runs are cleaned up after
_SCRIPT_WITHIN_S = 900.0


class ScriptError(Exception):
    """A script or a run that was to be measured did not succeed."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A run from the trigger to the news of its end, in seconds."""

    seconds: float
    run: RunJSON

    def stage_s(self, name: str) -> float:
        """From the start of a stage to its end, as recorded."""
        stage = stage_of(self.run, name)
        assert stage["started_at"] is not None
        assert stage["ended_at"] is not None
        lasted = datetime.fromisoformat(stage["ended_at"]) - datetime.fromisoformat(stage["started_at"])
        return lasted.total_seconds()


class Bench:
    """Of one scenario. `repeat`: how often a comparison is made."""

    def __init__(self, name: str, image: str, repeat: int) -> None:
        self.label = f"seamless-benchmark={name}"  # of what the scripts make
        self.image = image
        self.repeat = repeat
        self.folder = Path(tempfile.mkdtemp(prefix="seamless-bench-"))
        self.docker = asyncio.run(docker_cli())
        self.compose = asyncio.run(compose_cli())[0]

    def close(self) -> None:
        """Removes what the scripts left on the engine, and all files."""
        containers = docker("container", "ls", "--all", "--quiet", "--filter", f"label={self.label}").split()
        if containers:
            docker("container", "rm", "--force", "--volumes", *containers)
        images = docker("image", "ls", "--quiet", "--filter", f"label={self.label}").split()
        if images:
            docker("image", "rm", "--force", *dict.fromkeys(images), check=False)
        shutil.rmtree(self.folder)

    def repository(self, name: str, files: Mapping[str, str]) -> Repository:
        """A new one with one commit."""
        repository = Repository(self.folder / "repositories" / name)
        repository.commit(files)
        return repository

    @contextmanager
    def agent(
        self,
        services: str,
        *,
        pipeline: str = "",
        agent: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Agent]:
        """A running agent with this configuration; at the end it is killed and all that it made is removed."""
        folder = self.folder / "agent"
        folder.mkdir()
        one = Agent(folder, self.image)
        try:
            one.configure(services, pipeline=pipeline, agent=agent)
            one.spawn(crash_at=None, crash_log=None, **(environment or {}))
            one.await_ready()
            quiet(one)
            yield one
        except Exception as error:
            error.add_note(one.said())
            raise
        finally:
            one.finish(clean=False)
            shutil.rmtree(folder)

    def script(self, name: str, **variables: str) -> float:
        """Seconds that scripts/`name` takes. Raises ScriptError."""
        begun = time.monotonic()
        with self._running(name, variables) as process:
            said = _end_of(process)
        seconds = time.monotonic() - begun
        _check(name, process, said)
        return seconds

    def first_line(self, name: str, **variables: str) -> tuple[float, str, float]:
        """When the script was started, the first line that it prints, and when that was read; by `boot_s`."""
        begun = boot_s()
        with self._running(name, variables) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            arrived = boot_s()
            said = _end_of(process)
        _check(name, process, said)
        return begun, line, arrived

    def _running(self, name: str, variables: Mapping[str, str]) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "DOCKER": self.docker,
            "COMPOSE": " ".join(self.compose),
            "IMAGE": self.image,
            "LABEL": self.label,
            "TMPDIR": str(self.folder),
            **variables,
        }
        command = ["sh", "-eu", str(SCRIPTS / name)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def in_turns(self, *measures: Callable[[], float], warm_up: bool = True) -> list[list[float]]:
        """The samples of each measure, taken A B A B; the first round is not counted when it only warms up."""
        rounds = [[measure() for measure in measures] for _ in range(self.repeat + warm_up)]
        return [list(samples) for samples in zip(*rounds[warm_up:], strict=True)]


def _end_of(process: subprocess.Popen[str]) -> str:
    """What it said on stderr, at its end; one that hangs is killed."""
    try:
        return process.communicate(timeout=_SCRIPT_WITHIN_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"{process.communicate()[1]}it did not end within {_SCRIPT_WITHIN_S:g} s"


def _check(name: str, process: subprocess.Popen[str], said: str) -> None:
    if process.returncode != 0:
        raise ScriptError(f"{name} ended with {process.returncode}:\n{said}")


def time_run(
    agent: Agent, service: str, *, ref: str | None = None, checks: bool = False, rebuild: bool = False
) -> Timed:
    """Starts a run and follows it to its end; then waits until the agent is quiet, so that it disturbs nobody."""
    begun = time.monotonic()
    run = agent.client.start_run(service, ref=ref, checks=checks, rebuild=rebuild)["id"]
    for event in agent.client.stream_events(run=run, after=0):
        if event["kind"] == "run" and event["to_state"] in RUN_ENDED:
            break
    seconds = time.monotonic() - begun
    ended = agent.client.run(run)
    if ended["state"] != "success":
        raise ScriptError(f"{run} ended as {ended['state']}: {ended['reason']}")
    quiet(agent)
    return Timed(seconds, ended)


def quiet(agent: Agent) -> None:
    """Until the agent has cleaned up, has made its next network namespaces, and nothing changes any more."""
    views = agent.data_dir / "views"
    deadline = time.monotonic() + _QUIET_WITHIN_S
    seen: Sequence[str] = ()
    since = time.monotonic()
    while time.monotonic() - since < _QUIET_S or any(views.iterdir()):
        if time.monotonic() > deadline:
            raise ScriptError(f"the agent does not come to rest: {seen}, {list(views.iterdir())}")
        label = f"label=io.seamless.installation={agent.installation}"
        now = docker("container", "ls", "--all", "--filter", label, "--format", "{{.Names}} {{.State}}").splitlines()
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.1)


def milliseconds(samples: Sequence[float]) -> list[float]:
    return [sample * 1000 for sample in samples]


def boot_s() -> float:
    """What /proc/uptime shows, but exact: the clock that containers share with this host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def longest_stall(log: Path) -> tuple[float, float]:
    """(late, computed) of the longest stall in a log of SEAMLESS_STALL_LOG, in seconds."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return max(((float(late), float(computed)) for late, computed in lines), default=(0.0, 0.0))
