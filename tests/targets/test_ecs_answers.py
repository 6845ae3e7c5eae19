"""Answers of ECS that are throttled, lost, stale, or refused for credentials that have expired. ECS is scripted."""

from __future__ import annotations

import asyncio

import pytest

from harness.ecs_rows import HEALTHY, NEVER
from seamless.transitions import DeploymentEvent as Event

from .ecs_playing import new_ecs, playing

pytestmark = pytest.mark.fake


def test_every_call_may_be_throttled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.throttles_each = True
    with playing(ecs, monkeypatch) as player:
        assert player.deploy().event is Event.COMPLETE
    assert len(ecs.calls("UpdateService")) == len(ecs.calls("RegisterTaskDefinition")) == 1


@pytest.mark.parametrize("stale_reads", [0, 3])
def test_an_answer_that_is_lost_after_the_effect_makes_no_second_deployment(
    stale_reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.stale_reads = stale_reads
    ecs.faults["UpdateService"] = ["lost"]
    ecs.faults["RegisterTaskDefinition"] = ["lost"]
    with playing(ecs, monkeypatch) as player:
        assert player.deploy().event is Event.COMPLETE
    assert len(ecs.calls("UpdateService")) == len(ecs.calls("RegisterTaskDefinition")) == 1


def test_an_update_that_never_arrived_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.faults["UpdateService"] = ["drop", "500"]
    with playing(ecs, monkeypatch) as player:
        assert player.deploy().event is Event.COMPLETE
    assert len(ecs.calls("UpdateService")) == 1  # of those that arrived


@pytest.mark.parametrize(("stale_reads", "stale_updates"), [(4, False), (9, True)])
def test_a_stale_answer_is_no_rollback_and_makes_no_second_deployment(
    stale_reads: int, stale_updates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.stale_reads, ecs.stale_updates = stale_reads, stale_updates
    with playing(ecs, monkeypatch) as player:
        assert player.deploy().event is Event.COMPLETE
    assert len(ecs.calls("UpdateService")) == 1


def test_stale_answers_among_fresh_ones_are_no_rollback_either(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.stale_at = frozenset({3, 4, 6})
    with playing(ecs, monkeypatch) as player:
        assert player.deploy().event is Event.COMPLETE
    assert len(ecs.calls("UpdateService")) == 1


def test_credentials_that_expire_in_mid_watch_are_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.faults["DescribeServices"] = ["expired", "expired"]
    with playing(ecs, monkeypatch) as player:
        outcome = player.deploy()
        assert outcome.event is Event.FAIL  # no fresh ones, and nothing was changed yet
        assert "credentials have expired" in (outcome.reason or "")
        assert "the service was not changed" in (outcome.reason or "")
        player.again()
        ecs.faults["DescribeServices"] = ["expired"]
        assert player.deploy().event is Event.COMPLETE


def test_credentials_that_expire_when_the_service_is_updated_make_no_second_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came with expired credentials was not done; they are renewed a few looks later."""
    ecs = new_ecs(HEALTHY)
    ecs.faults["UpdateService"] = ["expired"] * 5
    with playing(ecs, monkeypatch) as player:
        assert player.deploy().event is Event.COMPLETE
        assert len(ecs.calls("UpdateService")) == 1
        player.renew(new_ecs(HEALTHY))
        player.ecs.faults["UpdateService"] = ["lost", "expired"]  # a second one would be told apart by the count

        async def lose_them(line: str) -> None:
            if "looking whether it was done" in line:
                player.ecs.faults["DescribeServices"] = ["expired"] * 9
            await player.lines(line)

        outcome = asyncio.run(player.target.deploy(player.request(), player.journal, lose_them))
    assert outcome.event is Event.COMPLETE
    assert len(player.ecs.calls("UpdateService")) == 1
    assert player.ecs.faults["DescribeServices"] == []


@pytest.mark.parametrize(("times", "event"), [(9, Event.COMPLETE), (999, Event.LOSE_SIGHT)])
def test_credentials_that_expire_after_the_service_was_updated(
    times: int, event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed in time, the deployment is followed to its end; else nobody knows, and nothing is undone blindly."""
    ecs = new_ecs(HEALTHY)
    with playing(ecs, monkeypatch, step_s=20) as player:

        async def log(line: str) -> None:
            if line.startswith("ECS deployment"):
                for operation in ("DescribeServices", "ListServiceDeployments", "UpdateService"):
                    ecs.faults[operation] = ["expired"] * times
            await player.lines(line)

        outcome = asyncio.run(player.target.deploy(player.request(), player.journal, log))
    assert outcome.event is event
    assert len(ecs.calls("UpdateService")) == 1
    assert [line for line in player.lines.lines if "asking again" in line] == [
        "AWS: the credentials have expired: ExpiredTokenException by script; asking again"
    ]


def test_a_log_in_that_is_over_on_the_way_back_is_told_and_the_way_back_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ecs = new_ecs(NEVER)
    ecs.faults["ListServiceDeployments"] = ["unknown"] * 2
    with playing(ecs, monkeypatch) as player:
        outcome = player.deploy()
    assert outcome.event is Event.ROLL_BACK
    assert "AWS does not know these credentials" in player.said
    assert [each["taskDefinition"][-5:] for each in ecs.calls("UpdateService")] == ["web:2", "web:1"]
