"""The one-off task before a deployment, such as a migration: once, with its log, and its own time. ECS is scripted."""

from __future__ import annotations

import asyncio

import pytest

from harness.ecs_rows import HEALTHY
from harness.scripted_ecs import ScriptedEcs
from seamless.transitions import DeploymentEvent as Event

from .ecs_playing import Player, new_ecs, playing

pytestmark = pytest.mark.fake


def one_off(end: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> tuple[ScriptedEcs, Player, Event, str]:
    ecs = new_ecs(HEALTHY)
    ecs.network = {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}
    ecs.task_ends = [end]
    with playing(ecs, monkeypatch) as player:
        outcome = player.deploy(before_deploy="npm run migrate")
    return ecs, player, outcome.event, outcome.reason or ""


def test_the_task_before_the_deploy_runs_once_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs, player, event, _ = one_off({"exitCode": 0, "lines": ("1 migration",)}, monkeypatch)
    assert event is Event.COMPLETE
    (run,) = ecs.calls("RunTask")
    command = ["sh", "-eu", "-c", "npm run migrate"]
    assert run["overrides"]["containerOverrides"] == [{"name": "app", "command": command}]
    assert (run["taskDefinition"][-5:], run["launchType"]) == ("web:2", "FARGATE")
    assert run["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == ["subnet-1"]
    assert player.lines.lines.count("1 migration") == 1
    assert "before_deploy: exit code 0" in player.lines.lines
    assert "not checked: the service's subnets, for want of ec2:DescribeSubnets" in player.lines.lines


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"exitCode": 1, "lines": ("no table",)}, "before_deploy: exit code 1"),
        ({"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: no"}, "cannot be pulled"),
        ({"stopCode": "TaskFailedToStart", "stoppedReason": "Timeout waiting for network"}, "Timeout waiting"),
        ({"failure": "RESOURCE:MEMORY"}, "before_deploy was not started: RESOURCE:MEMORY;"),
    ],
)  # fmt: skip
def test_a_task_that_does_not_exit_with_0_ends_the_deployment(
    end: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs, _, event, said = one_off(end, monkeypatch)
    assert event is Event.FAIL
    assert reason in said
    assert said.endswith("the service was not changed")
    assert ecs.calls("UpdateService") == []


@pytest.mark.parametrize(
    ("stops_s", "reason"),
    [
        (30.0, "before_deploy was stopped: exit code 143; the service was not changed"),
        (1000.0, "before_deploy was stopped, and whether its task oneoff0 has ended is not known; the service was"),
    ],
)
def test_a_task_before_the_deploy_is_stopped_and_followed_to_its_end(
    stops_s: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.network, ecs.task_takes_s, ecs.task_stops_s = {"subnets": ["subnet-1"]}, 500.0, stops_s
    with playing(ecs, monkeypatch) as player:

        async def log(line: str) -> None:
            if line.startswith("before_deploy runs as task"):
                player.cancel.set()
            await player.lines(line)

        request = player.request(before_deploy="npm run migrate")
        outcome = asyncio.run(player.target.deploy(request, player.journal, log))
    assert outcome.event is Event.FAIL
    assert (outcome.reason or "").startswith(reason)
    assert [each["reason"] for each in ecs.calls("StopTask")] == ["Seamless: before_deploy was stopped"]
    assert ("task oneoff0: UserInitiated: Seamless: before_deploy was stopped" in player.lines.lines) == (stops_s < 100)
    assert ecs.calls("UpdateService") == []


def test_the_time_of_the_task_before_the_deploy_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.network, ecs.task_takes_s = {"subnets": ["subnet-1"]}, 700.0
    with playing(ecs, monkeypatch) as player:
        outcome = player.deploy(before_deploy="npm run migrate", before_deploy_timeout=900.0)
    assert (outcome.event, outcome.reason) == (Event.COMPLETE, "2 tasks run web:2 after 41 s")


def test_a_task_before_the_deploy_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    ecs.network, ecs.task_takes_s = {"subnets": ["subnet-1"]}, 500.0
    ecs.faults["StopTask"] = ["drop", "500"]
    with playing(ecs, monkeypatch) as player:
        outcome = player.deploy(before_deploy="npm run migrate", before_deploy_timeout=60.0)
    assert outcome.reason == "before_deploy timed out after 60 s: exit code 143; the service was not changed"
