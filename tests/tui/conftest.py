from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import home
from cli.fake_agent import FakeAgent

from .screens import fleet_of_a_shop

__all__ = ["home"]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The garbage of each test is collected while its own filter of warnings is in force."""
    yield
    gc.collect()


@pytest.fixture
def shop(home: Path) -> Iterator[FakeAgent]:
    """An agent with a shop's services, one in each state that a service can be in."""
    with tempfile.TemporaryDirectory(prefix="s") as folder, FakeAgent(Path(folder, "a.sock")).serving() as agent:
        fleet_of_a_shop(agent)
        yield agent
