"""One scenario that passes every crash point, and what must be the same however often the agent dies on the way."""

from __future__ import annotations

import re
import secrets
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from harness.agents import Agent, stages
from harness.repositories import Repository
from seamless.errors import AgentUnreachableError
from seamless.transitions import RUN_ENDED, RunState

T = TypeVar("T")

PIPELINE = """
install = "cat /cache/seen 2>/dev/null || true; echo $SEAMLESS_RUN >> /cache/seen; echo installed $SEAMLESS_RUN"
code_quality = "sleep 0.1; echo checked $SEAMLESS_RUN; cat hello"
unit_test = "echo tested $SEAMLESS_RUN"
caches = ["/cache"]
max_interruptions = 100
"""
SERVICE = """
[services.web]
repo = "{repository}"
port = 8080
health = "/hello"
"""
DOCKERFILE = """\
FROM {image}
COPY hello /app/hello
CMD ["/bin/httpd", "-f", "-p", "8080", "-h", "/app"]
"""
_WITHIN_S = 120.0  # for whatever is waited for, since the agent was last started
_POLL_S = 0.1
_LABEL = "io.seamless.installation"
_STARTS = ["docker", "events", "--format={{.Actor.Attributes.name}}", "--filter=type=container", "--filter=event=start"]
_UNCLEANED = "SELECT id FROM runs WHERE cleaned = 0 AND ended_at IS NOT NULL"
_OF_RUNS = ("views", "spool", "work", "local")
_OWN_CONTAINERS = ("helper-", "network-")  # of the executor, as many as it takes
_PROGRAMS = frozenset({"build"})  # stages that are tried again when the agent dies


class Scenario:
    """Two commits to production, and back to the first. `points` are where the agent dies, one after the other."""

    def __init__(self, agent: Agent, folder: Path, points: list[str], *, record: Path | None = None) -> None:
        self.agent = agent
        self.died_at: list[str] = []
        self._points = points
        self._record = record
        self._deadline = 0.0
        self._repository = Repository(folder / "web")
        self._first = self._repository.commit({"Dockerfile": DOCKERFILE.format(image=agent.image), "hello": "one\n"})
        agent.configure(SERVICE.format(repository=self._repository.path), pipeline=PIPELINE)
        agent.data_dir.mkdir(mode=0o700)
        (agent.data_dir / "installation").write_text(secrets.token_hex(4))
        self._starts = folder / "starts"

    def play(self) -> dict[str, Any]:
        """From the first start of the agent to a clean end; returns what is comparable of it."""
        with open(self._starts, "wb") as starts:
            listener = subprocess.Popen([*_STARTS, f"--filter=label={_LABEL}={self.agent.installation}"], stdout=starts)
            try:
                self._start()
                self._through_production(1)
                self._repository.commit({"hello": "two\n"})
                self._through_production(2)
                self._insist(lambda: self._once(3, lambda: self.agent.client.rollback(self._first)))
                self._await(3, RunState.SUCCESS)
                self._end()
                return self._outcome()
            finally:
                listener.kill()
                listener.wait()

    def _through_production(self, number: int) -> None:
        client = self.agent.client
        self._insist(lambda: self._once(number, lambda: client.start_run("web")))
        self._await(number, RunState.AWAITING_APPROVAL)
        self._insist(lambda: self._approve(f"web-{number}"))
        self._await(number, RunState.SUCCESS)
        self._await_rest()

    def _once(self, number: int, start: Callable[[], object]) -> None:
        """A client that got no answer looks whether it was heard before it asks again."""
        if len(self.agent.client.runs(service="web")) < number:
            start()

    def _approve(self, run: str) -> None:
        if self.agent.client.run(run)["state"] == "awaiting_approval":
            self.agent.client.approve(run)

    def _await(self, number: int, state: str) -> None:
        self._deadline = time.monotonic() + _WITHIN_S
        while (run := self._insist(lambda: self.agent.client.run(f"web-{number}")))["state"] != state:
            told = f"{run['id']} is {run['state']}: {stages(run)}, after deaths at {self.died_at}\n{self.agent.said()}"
            assert run["state"] not in RUN_ENDED, told
            assert time.monotonic() < self._deadline, told
            time.sleep(_POLL_S)

    def _await_rest(self) -> None:
        """Until nothing of an ended run is left: what it wrote to caches is there then for the next."""
        self._deadline = time.monotonic() + _WITHIN_S
        while left := self._kept() or self.agent.left_behind() or self._query(_UNCLEANED):
            assert time.monotonic() < self._deadline, f"left behind: {left}\n{self.agent.said()}"
            if not self.agent.is_running():
                self._start()
            time.sleep(_POLL_S)

    def _kept(self) -> list[str]:
        """What lies in the folders that are for runs only."""
        return [str(path) for name in _OF_RUNS for path in (self.agent.data_dir / name).iterdir()]

    def _end(self) -> None:
        """Ends the agent; again, when it dies of something on the way or had a run yet to be marked as cleaned."""
        while True:
            if not self.agent.is_running():
                self._start()
            self._await_rest()
            if self.agent.is_running():
                self.agent.stop()
                if not self._query(_UNCLEANED):
                    return

    def _insist(self, step: Callable[[], T]) -> T:
        """Does `step`, however often the agent dies of it."""
        while True:
            if not self.agent.is_running():
                self._start()
            try:
                return step()
            except AgentUnreachableError:
                assert self.agent.process is not None
                self.agent.process.wait(timeout=60)

    def _start(self) -> None:
        """Starts the agent, which is to die of the next point; it may do so before it is ready."""
        process = self.agent.process
        if process is not None and process.returncode not in (None, 0):
            assert process.returncode == -9, f"the agent ended with {process.returncode}:\n{self.agent.said()}"
            self.died_at.append(self._points.pop(0))
        while True:
            self._deadline = time.monotonic() + _WITHIN_S
            self.agent.spawn(crash_at=self._points[0] if self._points else None, crash_log=self._record)
            assert self.agent.process is not None
            while self.agent.is_running() and not self.agent.is_ready():
                time.sleep(_POLL_S)
            if self.agent.is_running():
                return
            assert self.agent.process.returncode == -9, self.agent.said()
            self.died_at.append(self._points.pop(0))

    # -- what came of it

    def _query(self, sql: str) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.agent.data_dir}/seamless.db?mode=ro", uri=True)
        try:
            return [tuple(row) for row in connection.execute(sql)]
        finally:
            connection.close()

    def _outcome(self) -> dict[str, Any]:
        stages = "SELECT run, name, state, CASE WHEN state = 'success' THEN NULL ELSE reason END FROM stages"
        repeated = Counter(self._starts.read_text().split())
        attempts = self._query("SELECT run, name, attempt FROM stages WHERE attempt > 1")
        assert {name for _, name, _ in attempts} <= _PROGRAMS, f"tried again: {attempts}"
        assert [name for name, count in repeated.items() if count > 1] == [], "started twice"
        return {
            "runs": self._query("SELECT id, trigger, state, reason FROM runs ORDER BY number"),
            "stages": sorted(self._query(stages)),
            "deployments": self._query("SELECT run, environment, state FROM deployments ORDER BY id"),
            "hold": self._query("SELECT why FROM holds"),
            "images": self._query("SELECT run, checks_passed, trusted FROM images ORDER BY id"),
            "started": sorted(
                self._named(name) for name in repeated if "-helper-" not in name and "-network-" not in name
            ),
            "logs": self._logs(),
            "caches": sorted(path.name for path in (self.agent.data_dir / "caches").iterdir()),
        }

    def _named(self, container: str) -> str:
        return container.removeprefix(f"seamless-{self.agent.installation}-")

    def _logs(self) -> dict[str, list[str]]:
        """What the stages' containers wrote, as it is stored."""
        found = {}
        for file in sorted((self.agent.data_dir / "logs").rglob("*.log")):
            if file.stem in ("prepare", "code_quality", "unit_test"):
                found[f"{file.parent.name}/{file.stem}"] = _own(file.read_text().splitlines())
        return found


def _own(lines: list[str]) -> list[str]:
    """Without git's words and the agent's own, which one that repeats a checkout says again."""
    return [line for line in lines if re.match(r"(web-\d|installed|checked|tested|one|two)\b", line)]
