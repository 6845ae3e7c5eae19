"""A small service in a real repository, on a real agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.agents import Agent
from harness.repositories import Repository

DOCKERFILE = """\
FROM {image}
COPY . /app
CMD ["/bin/sh", "-c", "exec sleep 1000000"]
"""


def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    """Returns when it is true; asks ten times a second."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass
class Shop:
    """The agent, and the repository of its only service `web`."""

    agent: Agent
    repository: Repository

    def configure(self, service: str = "", **more: str) -> None:
        """`service` is TOML of [services.web] beyond its repository."""
        self.agent.configure(f'[services.web]\nrepo = "{self.repository.path}"\n{service}', **more)

    def start(self, service: str = "", **more: str) -> None:
        """Configures and starts the agent."""
        self.configure(service, **more)
        self.agent.start()

    def commit(self, files: dict[str, str | None] | None = None, message: str = "a change") -> str:
        return self.repository.commit(files, message)


@pytest.fixture
def shop(agent: Agent, new_repository: Callable[[str], Repository]) -> Shop:
    repository = new_repository("web")
    repository.commit({"Dockerfile": DOCKERFILE.format(image=agent.image), "hello": "hello\n"}, "first")
    return Shop(agent, repository)
