"""The agent is killed at every crash point, and what comes of it is what comes of a run that nobody disturbed.

Each test plays the scenario once and kills the agent at several points of it, far from each other: the start of
an agent is what these tests spend their time on. `points.txt` holds every point in the order in which the
scenario passes it, and is kept equal to what an undisturbed run reports.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from crash.scenario import Scenario
from harness.agents import Agent

pytestmark = [
    pytest.mark.engine,
    pytest.mark.exhaustive,
    pytest.mark.timeout(600),
    # httpx leaves the socket of a connection that broke off to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LIST = Path(__file__).with_name("points.txt")
POINTS = LIST.read_text(encoding="utf-8").split("\n")[:-1]
GROUPS = 6


def expected() -> dict[str, Any]:
    """What the scenario comes to."""
    stages = [
        "build",
        "code_quality",
        "deploy_production",
        "deploy_staging",
        "integration_test",
        "prepare",
        "unit_test",
    ]
    skipped = ("skipped", "no integration_test is set")
    runs = ["web-1", "web-2"]
    return {
        "runs": [(run, "manual", "success", None) for run in runs] + [("web-3", "rollback", "success", None)],
        "stages": [
            *(
                (run, name, *(skipped if name == "integration_test" else ("success", None)))
                for run in runs
                for name in stages
            ),
            ("web-3", "deploy_production", "success", None),
        ],
        "deployments": [
            *((run, environment, "success") for run in runs for environment in ("staging", "production")),
            ("web-3", "production", "success"),
        ],
        "hold": [("rolled back to COMMIT by root (web-3)",)],
        "images": [("web-1", 1, 1), ("web-2", 1, 1)],
        "started": sorted(
            [f"{run}-{stage}-1" for run in runs for stage in ("prepare", "code_quality", "unit_test")]
            + ["staging-web-1", "production-web-2", "staging-web-3", "production-web-4", "production-web-5"]
        ),
        "logs": {
            "web-1/prepare": ["installed web-1"],
            "web-1/code_quality": ["checked web-1", "one"],
            "web-1/unit_test": ["tested web-1"],
            "web-2/prepare": ["web-1", "installed web-2"],
            "web-2/code_quality": ["checked web-2", "two"],
            "web-2/unit_test": ["tested web-2"],
        },
        "caches": ["empty", "web-1-prepare-0", "web-2-prepare-0"],
    }


def play(folder: Path, image: str, points: list[str], *, record: Path | None = None) -> list[str]:
    """Plays the scenario on an agent of its own, which must come to the expected end; returns where the agent died."""
    folder.mkdir()
    agent = Agent(folder, image)
    passed = False
    try:
        scenario = Scenario(agent, folder, list(points), record=record)
        outcome = scenario.play()
        outcome["hold"] = [(re.sub(r"to [0-9a-f]{7} by \w+", "to COMMIT by root", why),) for (why,) in outcome["hold"]]
        assert outcome == expected()
        passed = True
        return scenario.died_at
    finally:
        agent.finish(clean=passed)  # nothing is left behind, and the history replays


def test_the_list_names_every_point_that_an_undisturbed_run_passes(busybox_image: str, tmp_path: Path) -> None:
    reached = tmp_path / "points"
    assert play(tmp_path / "play", busybox_image, [], record=reached) == []
    found = list(dict.fromkeys(reached.read_text(encoding="utf-8").split()))
    assert sorted(found) == sorted(POINTS), f"write what is new into {LIST.name}, in the order of the scenario"


@pytest.mark.parametrize("group", range(GROUPS))
def test_killed_at_each_point_it_comes_to_the_same_end(busybox_image: str, tmp_path: Path, group: int) -> None:
    points = POINTS[group::GROUPS]
    for number in range(5):
        died_at = play(tmp_path / f"play{number}", busybox_image, points)
        assert died_at == points[: len(died_at)]
        assert died_at, f"not reached: {points}"
        points = points[len(died_at) :]
        if not points:
            return  # else a stage of several that ran at once was further on than usual, and a point came too late
    raise AssertionError(f"not reached: {points}")
