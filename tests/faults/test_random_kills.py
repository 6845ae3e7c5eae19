"""Fifty SIGKILLs at random moments of concurrent runs: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harness.agents import Agent
from harness.killing import KillLoop

KILLS = 50


@pytest.mark.engine
@pytest.mark.timeout(900)
# httpx leaves the socket of a connection that broke off to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_is_lost_nothing_is_done_twice_and_nothing_is_left(agent: Agent, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown when it fails
    tally = KillLoop(agent, tmp_path, seed).play(KILLS)
    assert tally.kills == KILLS
    assert tally.with_runs > KILLS // 2, tally
    assert tally.runs >= 3, tally
