"""What the fault suite stands on: the small shop of the end-to-end tests, and an engine that may be ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from e2e.conftest import DOCKERFILE, Shop
from harness.agents import Agent
from harness.private_engine import PrivateEngine, private_engine
from harness.repositories import Repository


@pytest.fixture
def shop(agent: Agent, new_repository: Callable[[str], Repository]) -> Shop:
    repository = new_repository("web")
    repository.commit({"Dockerfile": DOCKERFILE.format(image=agent.image), "hello": "hello\n"}, "first")
    return Shop(agent, repository)


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    """Of one module: its tests are to be of the group "private engine", so that there is one at a time."""
    with private_engine() as made:
        yield made
