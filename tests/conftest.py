"""What tests of the whole program share: an image, repositories and agents."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.agents import Agent
from harness.engine import docker, import_busybox
from harness.repositories import Repository

# On a busy machine examples take long to be made, which is no failing.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure() -> None:
    """A suite that a shell started in the background ignores SIGINT, and so would every program that it interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each agent of each test compiles itself anew


@pytest.fixture(scope="session")
def busybox_image() -> Iterator[str]:
    """Static busybox and nothing else; made by each worker for itself."""
    name = import_busybox()
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture
def new_repository(tmp_path: Path) -> Callable[[str], Repository]:
    """Makes a repository of that name."""
    return lambda name: Repository(tmp_path / "repositories" / name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Lets fixtures know whether the test itself passed."""
    report = yield
    item.stash.setdefault(_FAILED, False)
    item.stash[_FAILED] |= bool(report.failed)  # type: ignore[attr-defined]
    return report


_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def agent(tmp_path: Path, busybox_image: str, request: pytest.FixtureRequest) -> Iterator[Agent]:
    """An agent that is not started yet. After a test that passed it must leave nothing behind, and its history must
    replay."""
    one = Agent(tmp_path, busybox_image)
    yield one
    one.finish(clean=not request.node.stash.get(_FAILED, False))
