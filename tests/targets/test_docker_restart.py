"""A deployment whose engine is restarted in the middle: what the engine's own end takes down is no verdict."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.private_engine import PrivateEngine, needs_private_engine, private_engine
from seamless.transitions import DeploymentEvent

from .deploying import FileJournal, build, until
from .driver import start_driver

pytestmark = [
    pytest.mark.engine,
    pytest.mark.xdist_group("private engine"),
    needs_private_engine,
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateEngine]:
    with private_engine() as made:
        monkeypatch.setenv("DOCKER_HOST", made.url)
        yield made


def test_a_new_release_taken_down_by_the_engines_own_end_is_started_again(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    order: dict[str, Any] = {
        "installation": "0a0b0c0d",
        "deployment": 1,
        "image": build("v1"),
        "changes": {"env": {"SLOW": "3"}, "deadline_s": 60},
        "journal": str(tmp_path / "journal"),
    }
    journal = FileJournal(tmp_path / "journal")
    with start_driver(order, within=engine.inside) as driver:
        asyncio.run(until(lambda: "start" in (journal.get("done") or ())))
        engine.stop()
        engine.start()
        output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    assert json.loads(output)["event"] == DeploymentEvent.COMPLETE, output
