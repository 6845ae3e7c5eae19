"""A real agent in a process of its own, with a data directory, a socket and containers that are its alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.engine import labelled, remove_everything
from harness.history import assert_history_replays
from seamless.client import Client
from seamless.errors import AgentUnreachableError
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON, StageJSON

_READY_S = 60.0
_RUN_S = 90.0
_POLL_S = 0.1
_AT_REST = frozenset({*RUN_ENDED, "awaiting_approval"})


class Agent:
    """`configure`, `start`, use `client`; `kill` and `start` again as often as the test likes; `finish` at the end."""

    def __init__(self, folder: Path, image: str) -> None:
        self.folder = folder
        self.image = image
        self.data_dir = folder / "data"
        self.config_file = folder / "seamless.toml"
        self.log = folder / "agent.log"
        self._short = Path(tempfile.mkdtemp(prefix="seamless-", dir="/tmp"))  # a socket's path has 107 bytes
        self.socket = self._short / "agent.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Client(self.socket)
        self._pipeline = ""
        self._text = ""

    def configure(self, services: str, *, pipeline: str = "", agent: str = "", more: str = "") -> None:
        """Writes the configuration. `services` is TOML from the first [services.…] on; polling is off unless `agent`
        says otherwise."""
        poll = "" if "poll" in agent else "poll = false\n"
        text = (
            f'[agent]\ndata_dir = "data"\nsocket = "{self.socket}"\n{poll}{agent}\n'
            f'[pipeline]\nimage = "{self.image}"\n{pipeline}\n{more}\n{services}\n'
        )
        new = self.config_file.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.rename(self.config_file)

    @property
    def installation(self) -> str:
        return (self.data_dir / "installation").read_text(encoding="ascii").strip()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "seamless", "--config", str(self.config_file), *arguments]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the CLI to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=120)

    def spawn(self, *, crash_at: str | None = None, crash_log: Path | None = None, **environment: str) -> None:
        """Starts the process, and does not wait for it."""
        assert self.process is None or self.process.poll() is not None, "the agent is running"
        variables = {**os.environ, **environment}
        if crash_at is not None:
            variables["SEAMLESS_CRASH_AT"] = crash_at
        if crash_log is not None:
            variables["SEAMLESS_CRASH_LOG"] = str(crash_log)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command("agent", "run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables, cwd="/"
            )

    def start(self, *, crash_at: str | None = None, crash_log: Path | None = None, **environment: str) -> None:
        """Starts the process and waits until it answers."""
        self.spawn(crash_at=crash_at, crash_log=crash_log, **environment)
        self.await_ready()

    def await_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while not self.is_ready():
            assert self.process is not None
            assert self.process.poll() is None, f"the agent ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"the agent is not ready:\n{self.said()}"
            time.sleep(_POLL_S)

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:  # not the client: its library leaks a socket that is refused
            if probe.connect_ex(str(self.socket)) != 0:
                return False
        try:
            return self.client.version()["ready"]
        except AgentUnreachableError:
            return False

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and its end. What runs in containers goes on."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=60) == 0, self.said()

    def restart(self) -> None:
        self.stop()
        self.start()

    # -- waiting

    def wait_run(self, run: str, states: Iterable[str] = _AT_REST, *, within_s: float = _RUN_S) -> RunJSON:
        """The run, once it is in one of `states` (ended or waiting for approval, when none are named)."""
        wanted = set(states)
        deadline = time.monotonic() + within_s
        while (found := self.client.run(run))["state"] not in wanted:
            assert found["state"] not in RUN_ENDED, (
                f"{run} ended as {found['state']}: {found['reason']}\n{stages(found)}"
            )
            assert time.monotonic() < deadline, f"{run} is still {found['state']}: {stages(found)}\n{self.said()}"
            time.sleep(_POLL_S)
        return found

    def wait_stage(self, run: str, stage: str, states: Iterable[str], *, within_s: float = 60.0) -> RunJSON:
        """The run, once that stage of it is in one of `states`."""
        wanted = set(states)
        deadline = time.monotonic() + within_s
        while stage_of(found := self.client.run(run), stage)["state"] not in wanted:
            assert time.monotonic() < deadline, f"{stage} of {run} did not become {wanted}: {stages(found)}"
            assert found["state"] not in RUN_ENDED, f"{run} ended as {found['state']}: {stages(found)}"
            time.sleep(_POLL_S)
        return found

    def wait_log(self, run: str, stage: str, text: str, *, within_s: float = 60.0) -> None:
        """Until the stage's log has this text in it."""
        deadline = time.monotonic() + within_s
        while text not in self.read_log(run, stage):
            found = self.client.run(run)
            told = (
                f"{text!r} is not in the log of {stage}:\n{self.read_log(run, stage)}\n{stages(found)}\n{self.said()}"
            )
            assert time.monotonic() < deadline, told
            if found["state"] in RUN_ENDED and text not in self.read_log(run, stage):
                raise AssertionError(told)
            time.sleep(_POLL_S)

    def run(self, service: str, **wanted: object) -> RunJSON:
        """Starts a run and waits until it has ended or waits for approval."""
        return self.wait_run(self.client.start_run(service, **wanted)["id"])  # type: ignore[arg-type]

    def approve(self, run: str, **wanted: bool) -> RunJSON:
        return self.wait_run(self.client.approve(run, **wanted)["id"], RUN_ENDED)

    def read_log(self, run: str, stage: str) -> str:
        return b"".join(self.client.log(run, stage)).decode()

    # -- the end

    def left_behind(self) -> list[str]:
        """What the engine still has of runs that are over; deployments and their networks are not of those."""
        found = labelled(self.installation, but=("deployment", "network"))
        networks = {f"seamless-{self.installation}-{environment}" for environment in ("staging", "production")}
        return [*found["container"], *found["volume"], *(name for name in found["network"] if name not in networks)]

    def await_clean(self, *, within_s: float = 60.0) -> None:
        """Until every run is at rest and nothing of any is left: cleaning comes after a run's end."""
        deadline = time.monotonic() + within_s
        for run in self.client.runs(limit=1000):
            if run["state"] not in _AT_REST:
                self.wait_run(run["id"], within_s=within_s)
        while left := self.left_behind():
            assert time.monotonic() < deadline, f"left behind: {left}\n{self.said()}"
            time.sleep(0.1)

    def finish(self, *, clean: bool) -> None:
        """Ends the agent and removes all that it made; `clean` checks what it leaves first."""
        try:
            if clean and self.is_running():
                self.await_clean()
                self.stop()
                assert self.left_behind() == []
            database = self.data_dir / "seamless.db"
            if clean and database.exists():
                assert_history_replays(database)
        finally:
            if self.is_running():
                self.kill()
            self.client.close()
            if (self.data_dir / "installation").exists():
                remove_everything(self.installation)
            shutil.rmtree(self._short)


def stage_of(run: RunJSON, name: str) -> StageJSON:
    return next(stage for stage in run["stages"] if stage["name"] == name)


def states_of(run: RunJSON) -> dict[str, str]:
    """Stage -> its state."""
    return {stage["name"]: stage["state"] for stage in run["stages"]}


def stages(run: RunJSON) -> Mapping[str, tuple[str, str | None]]:
    """Stage -> its state and reason, for a failed test to show."""
    return {stage["name"]: (stage["state"], stage["reason"]) for stage in run["stages"]}
