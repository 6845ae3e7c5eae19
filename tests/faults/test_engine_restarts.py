"""The Docker Engine ends in the middle of each kind of stage: the work is taken up again, and no verdict is guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agents import Agent, stage_of, stages, states_of
from harness.engine import import_busybox
from harness.invariants import assert_accounted_for
from harness.private_engine import PrivateEngine, needs_private_engine
from harness.repositories import Repository
from seamless.transitions import RUN_ENDED

pytestmark = [
    pytest.mark.engine,
    pytest.mark.exhaustive,
    pytest.mark.xdist_group("private engine"),
    pytest.mark.timeout(300),
    needs_private_engine,
    # docker-py and httpx leave the socket of a connection that broke off to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FIRST = '[ "$SEAMLESS_ATTEMPT" -gt 1 ] || { echo begun; sleep 1000; }; echo done'
SERVICE = f"""
[services.web]
repo = "REPOSITORY"
install = '{FIRST}'
unit_test = '{FIRST}'
use_staging = false
auto_deploy = true
port = 8080
health = "/hello"
integration_test = {{ compose_file = "compose.yml", test_service = "tests" }}
"""
DOCKERFILE = """\
FROM {image}
COPY hello /app/hello
RUN echo begun; sleep 5
CMD ["/bin/sh", "-c", "echo begun; sleep 3; exec httpd -f -p 8080 -h /app"]
"""
COMPOSE = """\
services:
  tests:
    image: {image}
    command: ["sh", "-c", "echo begun; sleep 4"]
"""


class _Inside(Agent):
    """An agent in the private engine's network namespace, where deployed containers can be reached."""

    def __init__(self, folder: Path, image: str, engine: PrivateEngine) -> None:
        super().__init__(folder, image)
        self._inside = engine.inside

    def command(self, *arguments: str) -> list[str]:
        return [*self._inside, *super().command(*arguments)]


@pytest.fixture
def agent_inside(engine: PrivateEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    one = _Inside(tmp_path, import_busybox(), engine)
    try:
        yield one
    finally:
        one.finish(clean=False)


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_in_the_middle_of_each_kind_of_stage(
    fault: str, agent_inside: Agent, engine: PrivateEngine, tmp_path: Path
) -> None:
    agent = agent_inside
    repository = Repository(tmp_path / "web")
    image = agent.image
    files = {"Dockerfile": DOCKERFILE.format(image=image), "compose.yml": COMPOSE.format(image=image), "hello": "hi\n"}
    repository.commit(files)
    agent.configure(SERVICE.replace("REPOSITORY", str(repository.path)))
    agent.start()
    client = agent.client
    client.start_run("web")
    for stage in ("prepare", "unit_test", "build", "integration_test", "deploy_production"):
        if stage == "deploy_production":
            agent.wait_log("web-1", stage, "started", within_s=60)
        elif stage != "build":  # which begins beside unit_test, and ends together with it
            agent.wait_log("web-1", stage, "begun", within_s=60)
        if stage == "unit_test":
            agent.wait_log("web-1", "build", "begun", within_s=60)
        if stage != "build":
            engine.stop() if fault == "stopped" else engine.kill()
            engine.start()
    ended = agent.wait_run("web-1", RUN_ENDED, within_s=90)
    assert ended["state"] == "success", (stages(ended), agent.said())
    assert set(states_of(ended).values()) == {"success", "skipped"}
    told = {name: agent.read_log("web-1", name) for name in states_of(ended)}
    for name in ("prepare", "unit_test"):
        assert stage_of(ended, name)["attempt"] == 2
        assert told[name].splitlines().count("begun") == told[name].splitlines().count("done") == 1, told[name]
    assert stage_of(ended, "deploy_production")["attempt"] == 1
    assert_accounted_for(agent)
