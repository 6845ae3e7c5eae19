"""Many ask for one thing at once: one wins, and the others are told."""

from __future__ import annotations

import random

import pytest

from e2e.conftest import Shop
from harness.invariants import assert_accounted_for
from harness.racing import race

ROUNDS = 6


@pytest.mark.engine
def test_of_a_hundred_who_approve_or_reject_one_wins(shop: Shop) -> None:
    shop.start("use_staging = false\nkeep_failed = '0s'")
    assert shop.agent.run("web")["state"] == "awaiting_approval"
    shop.agent.client.reject("web-1", "not this one")
    shop.agent.wait_run("web-1", {"cancelled"})
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown when it fails
    rng = random.Random(seed)
    assert {race(shop.agent, rng) for _ in range(ROUNDS)} <= {"approve", "reject"}
    assert_accounted_for(shop.agent)
