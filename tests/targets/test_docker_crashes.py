"""A deployment whose process dies by SIGKILL at every crash point, one after the other, ends like one that was
let be: same verdict, same containers, and the engine was asked for no container, start or end twice.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .conftest import Images, Place
from .deploying import free_port, until
from .driver import start_driver

pytestmark = [pytest.mark.engine, pytest.mark.exhaustive]

CONTAINER_EVENTS = {"create", "start", "die", "update", "destroy"}


@dataclass(frozen=True)
class Scenario:
    """What the deployment finds and how it goes."""

    name: str
    verdict: str
    old: bool = True
    publish: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    kill_started: bool = False

    def __str__(self) -> str:
        return self.name


SCENARIOS = (
    Scenario("alone", "complete", old=False),
    Scenario("beside", "complete"),
    Scenario("replace", "complete", publish=True),
    Scenario("alone, failing", "fail", old=False, env={"EXIT": "3"}),
    Scenario("beside, failing", "roll_back", env={"EXIT": "3"}),
    Scenario("replace, failing", "roll_back", publish=True, env={"SLOW": "0.5"}, kill_started=True),
)


@dataclass(frozen=True)
class Ending:
    """All that must not depend on crashes."""

    verdict: Mapping[str, Any]
    containers: list[tuple[str, str, str, str]]  # name, image, status, restart policy
    container_events: Counter[tuple[str, str]]
    network_events: Counter[str]
    networks: int


class Ended(NamedTuple):
    """How a driver ended."""

    returncode: int
    stdout: str
    stderr: str


class Events:
    """What the engine does from now on, as it tells it (it remembers only the last 256 events)."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen: list[dict[str, Any]] = []
        self._stream = place.api.events(decode=True)
        threading.Thread(target=self._follow, daemon=True).start()

    def so_far(self) -> list[dict[str, Any]]:
        """All events up to this call, and the last ones."""
        marker = f"{self._place.network}-marker"
        self._place.api.remove_network(self._place.api.create_network(marker)["Id"])
        asyncio.run(until(lambda: any(e["Action"] == "destroy" and _name(e) == marker for e in self._seen)))
        self._stream.close()
        return self._seen

    def _follow(self) -> None:
        for event in self._stream:
            self._seen.append(event)


def _name(event: Mapping[str, Any]) -> str:
    return str(event["Actor"]["Attributes"].get("name", ""))


class Deployment:
    """One deployment in a place of its own, driven by as many processes as it takes."""

    def __init__(self, place: Place, scenario: Scenario, images: Images, folder: Path) -> None:
        self._place = place
        self._scenario = scenario
        self._port = free_port()
        self._changes: dict[str, Any] = {"publish": self._port} if scenario.publish else {}
        self._folder = folder
        self._images = images
        folder.mkdir()
        if scenario.old:
            self._run(1, images.v1, self._changes, kill_started=False)
        self._events = Events(place)

    def drive(self, **environment: str) -> Ended:
        changes = {**self._changes, "env": dict(self._scenario.env)}
        return self._run(2, self._images.v2, changes, kill_started=self._scenario.kill_started, **environment)

    def _run(
        self, deployment: int, image: str, changes: Mapping[str, Any], *, kill_started: bool, **environment: str
    ) -> Ended:
        order = {
            "installation": self._place.installation,
            "deployment": deployment,
            "image": image,
            "changes": changes,
            "journal": str(self._folder / f"{deployment}.json"),
            "kill_started": kill_started,
        }
        with start_driver(order, **environment) as driver:
            output, errors = driver.communicate(timeout=60)
        return Ended(driver.returncode, output, errors)

    def ending(self, process: Ended) -> Ending:
        assert process.returncode == 0, process.stderr
        place = self._place
        told = process.stdout.replace(place.installation, "<installation>").replace(f":{self._port}", ":<port>")
        verdict = json.loads(re.sub(r"\b\d+\.\d+\b(?!\.)", "0", told))  # durations
        containers = [
            (name, data["Image"], data["State"]["Status"], data["HostConfig"]["RestartPolicy"]["Name"])
            for name, data in ((name, place.inspect(name)) for name in place.names())
        ]
        ours = self._events.so_far()
        return Ending(
            verdict,
            containers,
            Counter(
                (event["Action"], _name(event).removeprefix(place.network))
                for event in ours
                if event["Type"] == "container"
                and event["Action"] in CONTAINER_EVENTS
                and _name(event).startswith(f"{place.network}-")
            ),
            Counter(event["Action"] for event in ours if event["Type"] == "network" and _name(event) == place.network),
            len(place.networks()),
        )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_dying_at_every_crash_point_changes_nothing(scenario: Scenario, images: Images, tmp_path: Path) -> None:
    quiet, stormy = Place(), Place()
    try:
        uninterrupted = Deployment(quiet, scenario, images, tmp_path / "quiet")
        passed = tmp_path / "points"
        expected = uninterrupted.ending(uninterrupted.drive(SEAMLESS_CRASH_LOG=str(passed)))
        assert expected.verdict["event"] == scenario.verdict
        points = [point for point in passed.read_text().splitlines() if point.startswith("deploy.docker.")]
        assert len(points) == len(set(points)) >= 12

        interrupted = Deployment(stormy, scenario, images, tmp_path / "stormy")
        for point in points:
            killed = interrupted.drive(SEAMLESS_CRASH_AT=point)
            assert killed.returncode == -signal.SIGKILL, f"{point}: {killed.stdout}{killed.stderr}"
        assert interrupted.ending(interrupted.drive()) == expected
    finally:
        quiet.clear()
        stormy.clear()
