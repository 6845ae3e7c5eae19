"""What GitHub is to be told outlives the agent, wherever that is killed between asking and knowing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agents import Agent
from harness.github import FakeGitHub, FakeRepository, Fault, Token, fake_github
from seamless.errors import AgentUnreachableError

pytestmark = [pytest.mark.engine, pytest.mark.fake]

TOKEN = "ghp_s3cr3ts3cr3t"
SERVICE = """\
[services.web]
repo = "{github.url}/acme/web.git"
unit_test = "true"
auto_merge = "squash"
git.token = {{ env = "GITHUB" }}
"""


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with fake_github(tmp_path / "github") as server:
        server.tokens[TOKEN] = Token()
        yield server


@pytest.fixture
def web(github: FakeGitHub, agent: Agent) -> FakeRepository:
    agent.configure(SERVICE.format(github=github), more=f'[github]\napi_url = "{github.api_url}"\n')
    return github.add("acme/web", {"hello": "hello\n"})


def until(holds: Callable[[], object], agent: Agent) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, agent.said()[-5000:]
        time.sleep(0.05)


def shown(web: FakeRepository, commit: str) -> list[tuple[str, str]]:
    """The commit's statuses, oldest first."""
    return [(one["state"], one["description"]) for one in reversed(web.statuses.get(commit, []))]


def dies(agent: Agent) -> None:
    assert agent.process is not None
    assert agent.process.wait(timeout=60) == -9


@pytest.mark.exhaustive
def test_a_status_is_told_however_often_the_agent_dies_of_telling_it(agent: Agent, web: FakeRepository) -> None:
    head = web.head("main")
    agent.start(crash_at="outbox.github:before_effect", GITHUB=TOKEN)
    with contextlib.suppress(AgentUnreachableError):  # it may die before it answers
        agent.client.start_run("web", checks=True)
    dies(agent)
    assert shown(web, head) == []
    for _ in range(2):
        agent.spawn(crash_at="outbox.github:after_effect", GITHUB=TOKEN)
        dies(agent)
    agent.start(GITHUB=TOKEN)
    agent.wait_run("web-1", ["success"])
    until(lambda: ("success", "web-1: all checks passed") in shown(web, head), agent)
    told = shown(web, head)
    assert [state for state, _ in told] == ["pending"] * (len(told) - 1) + ["success"]
    assert len(agent.client.runs()) == 1


def test_a_merge_is_made_once_when_the_agent_dies_before_it_hears_of_it(
    agent: Agent, github: FakeGitHub, web: FakeRepository
) -> None:
    web.push({"new": "x\n"}, branch="feature")
    pull = web.open_pull("feature")
    asked, goes_on = threading.Event(), threading.Event()
    github.faults.append(Fault("^PUT .*/merge$", times=1, reached=asked, until=goes_on))
    agent.start(GITHUB=TOKEN)
    agent.client.start_run("web", pull_request=1)
    agent.wait_run("web-1", ["success"])
    assert asked.wait(60), agent.said()
    agent.kill()
    goes_on.set()
    until(lambda: pull.merged_as, agent)
    agent.start(GITHUB=TOKEN)
    until(lambda: agent.client.run("web-1")["merge"] == f"#1 merged as {web.head('main')[:7]} (squash)", agent)
    assert len(github.asked("^PUT .*/merge$")) == 1
    merges = [event for event in agent.client.events(run="web-1") if event["kind"] == "merge"]
    assert [event["name"] for event in merges] == ["merge"]
