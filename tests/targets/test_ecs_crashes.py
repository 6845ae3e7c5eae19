"""The agent dies at any point of a deployment to ECS: the next one goes on with the same deployment.

Dying is simulated: the journal, or a crash point, raises what nobody catches. Each scenario is first played without a
death, which tells the points that there are; then once for each of them. The far end is scripted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from harness.ecs_rows import HEALTHY, NEVER, Row
from harness.scripted_ecs import ScriptedEcs
from seamless.targets import DeployOutcome, ecs_back, ecs_before, ecs_rollout

from .deploying import Lines, MemoryJournal
from .ecs_playing import Player, new_ecs, playing

pytestmark = pytest.mark.fake

ROLLED_BACK = [Row(0, "going"), Row(10, "rollback", failed=3, reason="tasks failed to start")]
SCENARIOS: dict[str, tuple[Sequence[Sequence[Row]], dict[str, Any], bool]] = {
    "a migration, then success": ([HEALTHY], {"before_deploy": "migrate"}, True),
    "stopped at the deadline": ([NEVER], {"deadline_s": 60.0}, True),
    "back by the earlier definition": ([NEVER], {"deadline_s": 60.0}, False),
    "rolled back by the circuit breaker": ([ROLLED_BACK], {}, True),
}


class KilledError(BaseException):
    """The agent is no more."""


class Mortal:
    """Notes each point that is passed, and dies at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.passed: list[str] = []
        self.at = at

    def __call__(self, point: str) -> None:
        self.passed.append(point)
        if len(self.passed) - 1 == self.at:
            raise KilledError(point)


class MortalJournal(MemoryJournal):
    def __init__(self, mortal: Mortal) -> None:
        super().__init__()
        self._mortal = mortal

    async def record(self, **entries: Any) -> None:
        name = "+".join(sorted(entries))
        self._mortal(f"journal.{name}:before")
        self.entries |= json.loads(json.dumps(entries))
        self._mortal(f"journal.{name}:after")


def far_end(name: str) -> ScriptedEcs:
    scripts, _, lists = SCENARIOS[name]
    ecs = new_ecs(*(list(script) for script in scripts), breaker={"enable": True, "rollback": True})
    ecs.network = {"subnets": ["subnet-1"]}
    ecs.lists_service_deployments = lists
    return ecs


def play(name: str, player: Player, mortal: Mortal, monkeypatch: pytest.MonkeyPatch) -> DeployOutcome:
    """The deployment, taken up again after each death."""
    for module in (ecs_rollout, ecs_back, ecs_before):
        monkeypatch.setattr(module, "crash_point", mortal)
    journal = MortalJournal(mortal)
    changes = SCENARIOS[name][1]
    while True:
        try:
            return asyncio.run(player.target.deploy(player.request(**changes), journal, Lines()))
        except KilledError:
            continue


def summary(ecs: ScriptedEcs, outcome: DeployOutcome) -> dict[str, Any]:
    return {
        "event": outcome.event,
        "reason": (outcome.reason or "").partition(" after ")[0],
        "runs": ecs.primary["taskDefinition"],
        "definitions": len(ecs.definitions),
        "begun": [each["definition"] for each in ecs.history],
        "one-off tasks": len([arn for arn in ecs.tasks if "oneoff" in arn]),
        "updates": len(ecs.calls("UpdateService")),
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_death_at_any_point_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mortal = Mortal()
    with playing(far_end(name), monkeypatch) as player:
        undisturbed = summary(player.ecs, play(name, player, mortal, monkeypatch))
        assert any(point.startswith("deploy.ecs.update") for point in mortal.passed)
        for number, point in enumerate(mortal.passed):
            player.renew(far_end(name))
            outcome = play(name, player, Mortal(number), monkeypatch)
            assert summary(player.ecs, outcome) == undisturbed, point
