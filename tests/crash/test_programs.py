"""The agent is killed around what it has programs do: a push to a registry, and an integration test by Compose."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash.test_decisions import Mortal
from harness.agents import Agent, stage_of, stages
from harness.invariants import assert_accounted_for
from harness.registry import local_registry
from harness.repositories import Repository
from seamless.transitions import RUN_ENDED

pytestmark = [
    pytest.mark.engine,
    pytest.mark.exhaustive,
    pytest.mark.timeout(300),
    # httpx leaves the socket of a connection that broke off to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

POINTS = [
    "build:after_build",
    "build:after_push",
    "integration:after_start",
    "integration:after_tests",
]
COMPOSE = """\
services:
  web:
    build: .
  tests:
    image: {image}
    command: ["sh", "-c", "echo tested"]
    depends_on: [web]
"""
SERVICE = """
[services.web]
repo = "{repository}"
registry = "{host}/team"
use_staging = false
max_interruptions = 20
integration_test = {{ compose_file = "compose.yml", test_service = "tests" }}
"""
REGISTRIES = """
[registries."{host}"]
username = "acme"
password = {{ env = "SEAMLESS_TEST_REGISTRY" }}
"""


def test_a_push_and_an_integration_test(agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMLESS_TEST_REGISTRY", "secret")
    repository = Repository(tmp_path / "repository")
    dockerfile = f'FROM {agent.image}\nCMD ["/bin/sleep", "1000000"]\n'
    repository.commit({"Dockerfile": dockerfile, "compose.yml": COMPOSE.format(image=agent.image)})
    with local_registry(tmp_path / "registry") as registry:
        service = SERVICE.format(repository=repository.path, host=registry.host)
        agent.configure(service, more=REGISTRIES.format(host=registry.host))
        one = Mortal(agent, list(POINTS))
        one.start_run("web", checks=False)
        waiting = one.wait("web-1", frozenset({"awaiting_approval"}))
        assert one.died_at == POINTS
        assert stage_of(waiting, "build")["attempt"] == 1, stages(waiting)  # what it had built and pushed was found
        assert stage_of(waiting, "integration_test")["attempt"] == 3, stages(waiting)
        assert stage_of(waiting, "build")["detail"]["ref"].startswith(f"{registry.host}/team/web@sha256:")
        assert len(agent.client.images("web")) == 1
        assert "tested" in agent.read_log("web-1", "integration_test")
        agent.client.reject("web-1", "seen")
        agent.wait_run("web-1", RUN_ENDED)
        assert_accounted_for(agent)
