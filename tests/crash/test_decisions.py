"""The agent is killed where a run does not go the whole way: it fails, it is cancelled, somebody says no."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from harness.agents import Agent, states_of
from harness.repositories import Repository
from seamless.errors import AgentUnreachableError, RefusedError
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON

pytestmark = [
    pytest.mark.engine,
    pytest.mark.exhaustive,
    pytest.mark.timeout(300),
    # httpx leaves the socket of a connection that broke off to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

T = TypeVar("T")
SERVICES = """
[services.slow]
repo = "{repository}"
unit_test = "echo begun; trap true TERM; sleep 1000"

[services.red]
repo = "{repository}"
code_quality = "exit 3"
unit_test = "echo tested"
max_attempts = 2
keep_failed = "0s"

[services.held]
repo = "{repository}"
use_staging = false
"""


def sides(*names: str) -> list[str]:
    return [f"{name}:{side}_commit" for name in names for side in ("before", "after")]


CANCEL = sides("run.request_cancel", "stage.unit_test.cancel", "run.cancel")
FAIL = sides("stage.code_quality.retry", "stage.code_quality.fail", "run.fail")
REJECT = [
    *sides("run.await_approval"),
    "stage.deploy_production.cancel:before_commit",  # of the same transaction as the next, so it has no after
    *sides("run.reject", "hold.set", "hold.end"),
]


class Mortal:
    """An agent that dies of each point in turn, and is started again."""

    def __init__(self, agent: Agent, points: list[str]) -> None:
        self.agent = agent
        self.points = points
        self.died_at: list[str] = []
        self.agent.start(crash_at=points[0])

    def insist(self, step: Callable[[], T]) -> T:
        """Does `step`, however often the agent dies of it."""
        while True:
            if not self.agent.is_running():
                assert self.agent.process is not None
                assert self.agent.process.returncode == -9, self.agent.said()
                self.died_at.append(self.points.pop(0))
                self.agent.start(crash_at=self.points[0] if self.points else None)
            try:
                return step()
            except AgentUnreachableError:
                assert self.agent.process is not None
                self.agent.process.wait(timeout=60)

    def start_run(self, service: str, *, checks: bool) -> None:
        client = self.agent.client
        self.insist(lambda: client.runs(service=service) or client.start_run(service, checks=checks))

    def wait(self, run: str, states: frozenset[str]) -> RunJSON:
        return self.insist(lambda: self.agent.wait_run(run, states))


@pytest.fixture
def mortal(agent: Agent, tmp_path: Path) -> Callable[[list[str]], Mortal]:
    repository = Repository(tmp_path / "repository")
    repository.commit({"Dockerfile": f'FROM {agent.image}\nCMD ["/bin/sleep", "1000000"]\n'})
    agent.configure(SERVICES.format(repository=repository.path))
    return lambda points: Mortal(agent, list(points))


def events(agent: Agent) -> list[str]:
    """The names of all events of runs, stages and actions, from the file of an agent that has ended."""
    connection = sqlite3.connect(agent.data_dir / "seamless.db")
    try:
        return [f"{row[0]}.{row[1]}" for row in connection.execute("SELECT kind, name FROM events ORDER BY id")]
    finally:
        connection.close()


def finish(mortal: Mortal, points: list[str]) -> list[str]:
    """Ends the agent, which must have died of every point; returns its events."""
    assert mortal.died_at == points
    mortal.agent.await_clean()
    mortal.agent.stop()
    return events(mortal.agent)


def test_a_cancellation(mortal: Callable[[list[str]], Mortal]) -> None:
    one = mortal(CANCEL)
    one.start_run("slow", checks=True)
    one.insist(lambda: one.agent.wait_log("slow-1", "unit_test", "begun"))

    def cancel() -> None:
        if one.agent.client.run("slow-1")["cancel_requested"] is None:
            one.agent.client.cancel("slow-1", "enough")

    one.insist(cancel)
    ended = one.wait("slow-1", frozenset({"cancelled"}))
    assert (ended["reason"] or "").endswith(": enough")
    assert states_of(ended) == {"prepare": "success", "code_quality": "skipped", "unit_test": "cancelled"}
    assert one.agent.read_log("slow-1", "unit_test").splitlines().count("begun") == 1
    told = finish(one, CANCEL)
    assert [told.count(name) for name in ("action.cancel", "run.cancel", "stage.cancel")] == [1, 1, 1]


def test_a_failure_and_its_second_attempt(mortal: Callable[[list[str]], Mortal]) -> None:
    one = mortal(FAIL)
    one.start_run("red", checks=True)
    ended = one.wait("red-1", frozenset({"failure"}))
    assert ended["reason"] == "code_quality: exit code 3"
    assert states_of(ended) == {"prepare": "success", "code_quality": "failure", "unit_test": "success"}
    assert [stage["attempt"] for stage in ended["stages"]] == [1, 2, 1]
    assert one.agent.read_log("red-1", "unit_test").splitlines().count("tested") == 1
    told = finish(one, FAIL)
    assert [told.count(name) for name in ("stage.retry", "stage.fail", "run.fail")] == [1, 1, 1]


def test_a_no_and_a_hold(mortal: Callable[[list[str]], Mortal]) -> None:
    one = mortal(REJECT)
    client = one.agent.client
    one.start_run("held", checks=False)
    one.wait("held-1", frozenset({"awaiting_approval"}))

    def reject() -> None:
        if client.run("held-1")["state"] not in RUN_ENDED:
            client.reject("held-1", "not today")

    one.insist(reject)
    ended = one.wait("held-1", frozenset({"cancelled"}))
    assert ended["reason"] == "not today"
    one.insist(lambda: held(one) or client.hold("held", "a sale goes on"))

    def release() -> None:
        try:
            client.release("held")
        except RefusedError as error:  # an agent that died after its commit had heard us
            assert "not on hold" in error.message  # noqa: PT017

    one.insist(release)
    assert one.insist(lambda: held(one)) is False
    told = finish(one, REJECT)
    assert [told.count(name) for name in ("run.reject", "action.reject", "action.hold", "action.release")] == [1] * 4


def held(one: Mortal) -> bool:
    return next(status["hold"] for status in one.agent.client.status() if status["service"] == "held") is not None
