"""An agent that is killed at random moments while several runs go on at once, and what must have come of them."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.agents import Agent, stages
from harness.invariants import assert_accounted_for
from harness.repositories import Repository
from seamless.errors import AgentUnreachableError
from seamless.transitions import RUN_ENDED

SERVICES = ("pay", "ship", "mail")
_PIPELINE = """
install = "echo installed $SEAMLESS_RUN; sleep 0.3"
code_quality = "echo checked $SEAMLESS_RUN; sleep 0.5; echo good $SEAMLESS_RUN"
unit_test = "echo tested $SEAMLESS_RUN; sleep 0.2; echo $SEAMLESS_RUN >>/cache/runs"
caches = ["/cache"]
use_staging = false
auto_deploy = true
max_interruptions = 100
"""
_SERVICE = """
[services.{name}]
repo = "{repository}"
port = 8080
health = "/hello"
"""
_DOCKERFILE = """\
FROM {image}
COPY hello /app/hello
CMD ["/bin/httpd", "-f", "-p", "8080", "-h", "/app"]
"""
_SAID_ONCE = {
    "prepare": ("installed",),
    "code_quality": ("checked", "good"),
    "unit_test": ("tested",),
}
_OWN = ("-helper-", "-network-")  # containers of the executor, as many as it takes
_REST_S = 180.0


@dataclass
class Tally:
    """What a round of kills did."""

    kills: int = 0
    runs: int = 0
    while_starting: int = 0
    with_runs: int = 0  # kills while at least one run was active


class KillLoop:
    """`play` kills, brings all to its end, and checks it; the same seed waits the same times."""

    def __init__(self, agent: Agent, folder: Path, seed: int) -> None:
        self.agent = agent
        self.tally = Tally()
        self._random = random.Random(seed)
        self._acknowledged: set[str] = set()
        self._starts = folder / "starts"
        repository = Repository(folder / "repository")
        repository.commit({"Dockerfile": _DOCKERFILE.format(image=agent.image), "hello": "hello\n"})
        services = (
            f'[services.{name}]\nrepo = "{repository.path}"\nport = 8080\nhealth = "/hello"' for name in SERVICES
        )
        agent.configure("\n".join(services), pipeline=_PIPELINE, agent="max_parallel_runs = 3")

    def play(self, kills: int) -> Tally:
        """May be repeated, over what is there by then."""
        self.agent.start()  # so that it has its installation's name
        with open(self._starts, "ab") as starts:
            listener = subprocess.Popen(_listen(self.agent.installation), stdout=starts)
            try:
                for _ in range(kills):
                    self._live_and_die()
                self._come_to_rest()
                assert_accounted_for(self.agent)
            finally:
                listener.kill()
                listener.wait()
        self._check()
        return self.tally

    def _live_and_die(self) -> None:
        if self._random.random() < 0.25:
            time.sleep(self._random.uniform(0.0, 1.5))
            self.tally.while_starting += 1
        else:
            self.agent.await_ready()
            self.tally.with_runs += self._start_runs() > 0
            time.sleep(self._random.uniform(0.0, 1.5))
        self.agent.kill()
        self.tally.kills += 1
        self.agent.spawn()

    def _start_runs(self) -> int:
        """A run for each service that has none; returns how many there are."""
        active = [run for run in self.agent.client.runs(limit=20) if run["state"] not in RUN_ENDED]
        busy = {run["service"] for run in active}
        for service in SERVICES:
            if service not in busy:
                self._acknowledged.add(self.agent.client.start_run(service)["id"])
        return len(SERVICES)

    def _come_to_rest(self) -> None:
        self.agent.await_ready()
        deadline = time.monotonic() + _REST_S
        while active := [run for run in self._all_runs() if run[1] not in RUN_ENDED]:
            told = [stages(self.agent.client.run(run)) for run, _ in active]
            assert time.monotonic() < deadline, f"not at rest: {told}\n{self.agent.said()[-5000:]}"
            time.sleep(0.2)

    def _all_runs(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        before: str | None = None
        with contextlib.suppress(AgentUnreachableError):
            while page := self.agent.client.runs(limit=500, before=before):
                found += [(run["id"], run["state"]) for run in page]
                before = page[-1]["id"]
        return found

    def _check(self) -> None:
        """Nothing lost, nothing twice. Of the agent's end."""
        connection = sqlite3.connect(self.agent.data_dir / "seamless.db")
        try:
            runs = dict(connection.execute("SELECT id, state FROM runs").fetchall())
            reasons = connection.execute("SELECT id, reason FROM runs WHERE state <> 'success'").fetchall()
            deployments = connection.execute("SELECT run, count(*) FROM deployments GROUP BY run").fetchall()
        finally:
            connection.close()
        self.tally.runs = len(runs)
        assert self._acknowledged <= set(runs), f"lost: {self._acknowledged - set(runs)}"
        assert not reasons, f"not what an undisturbed run comes to: {reasons}\n{self.agent.said()[-8000:]}"
        assert deployments == [(run, 1) for run, _ in deployments], "deployed twice"
        assert len(deployments) == len(runs)
        started = Counter(name for name in self._starts.read_text().split() if not any(own in name for own in _OWN))
        twice = {name: count for name, count in started.items() if count > 1}
        assert not twice, f"started twice: {twice}"
        for run in runs:
            self._check_log(run)

    def _check_log(self, run: str) -> None:
        folder = self.agent.data_dir / "logs" / run.rpartition("-")[0] / run
        for stage, words in _SAID_ONCE.items():
            lines = (folder / f"{stage}.log").read_text().splitlines()
            for word in words:
                assert lines.count(f"{word} {run}") == 1, f"{run} {stage}: {lines}"


def _listen(installation: str) -> list[str]:
    filters = ("type=container", "event=start", f"label=io.seamless.installation={installation}")
    return ["docker", "events", "--format={{.Actor.Attributes.name}}", *(f"--filter={each}" for each in filters)]
