"""Deployments to a scripted ECS: each scenario is a table of what ECS does. All of it is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from harness.ecs_rows import BACK, HEALTHY, NEVER, Row, Stopped
from seamless.targets.ecs_explain import tasks_lines
from seamless.targets.ecs_plan import tags_of
from seamless.transitions import DeploymentEvent as Event

from .ecs_playing import DEFINITION, INSTALLATION, Player, image, new_ecs, playing, recorded

pytestmark = pytest.mark.fake

OOM = Stopped("Essential container in task exited", exit_code=137, container_reason="OutOfMemoryError: killed")
CRASH = Stopped("Essential container in task exited", exit_code=3, lines=("starting", "no database"))
NO_IMAGE = Stopped("CannotPullContainerError: not found", "TaskFailedToStart")
UNWELL = Stopped("Task failed ELB health checks in (target-group x)", "ServiceSchedulerInitiated")
FLAPPING = [
    Row(step * 30, "going", running=step % 2, failed=step, task=CRASH, event=f"(service web) has started task {step}")
    for step in range(1, 40)
]


def test_a_deployment_changes_the_image_and_the_variables_and_nothing_else(healthy: Player) -> None:
    outcome = healthy.deploy(task_env={"LOG_LEVEL": "info"}, task_secrets={"DB_URL": {"ssm": "/web/db"}})
    assert (outcome.event, outcome.reason) == (Event.COMPLETE, "2 tasks run web:2 after 41 s")
    assert outcome.detail["task_definition"].endswith("task-definition/web:2")
    assert [set(each) for each in healthy.ecs.calls("UpdateService")] == [{"cluster", "service", "taskDefinition"}]
    (registered,) = healthy.ecs.calls("RegisterTaskDefinition")
    tags = tags_of(registered.pop("tags"))
    app, proxy = registered["containerDefinitions"]
    assert (app["image"], proxy) == (image(1).pullable, DEFINITION["containerDefinitions"][1])
    assert app["environment"] == [{"name": "LOG_LEVEL", "value": "info"}]
    secret = "arn:aws:ssm:eu-central-1:123456789012:parameter/web/db"
    assert app["secrets"] == [{"name": "DB_URL", "valueFrom": secret}]
    assert {**registered, "containerDefinitions": []} == {**DEFINITION, "containerDefinitions": []}
    assert tags["seamless:run"] == "web-1"
    assert tags["seamless:installation"] == INSTALLATION


def test_the_log_tells_events_once_and_counts_as_they_change(healthy: Player) -> None:
    healthy.deploy()
    assert [line for line in healthy.lines.lines if "web:2: " in line or "service web)" in line] == [
        "(service web) has started 2 tasks",
        "web:2: 0 of 2 tasks run, 2 starting",
        "web:2: 1 of 2 tasks run, 1 starting",
        "(service web) has reached a steady state.",
        "web:2: 2 of 2 tasks run",
    ]
    assert f"app image: sha256:{'0' * 64} →" not in healthy.said
    assert "→" in healthy.said


# name -> (what ECS does, settings of it, verdict, what the reason says, what became of the service)
SCENARIOS: dict[str, tuple[Sequence[Sequence[Row]], dict[str, object], Event, str, str]] = {
    "circuit breaker off, never stable": (
        [NEVER],
        {},
        Event.ROLL_BACK,
        "not stable after 600 s: 0 of 2 tasks run, 2 starting; rolled back to web:1",
        "web:1",
    ),
    "circuit breaker on, without rollback": (
        [[Row(0, "going"), Row(30, "failed", failed=4, reason="tasks failed to start", task=CRASH)]],
        {"breaker": {"enable": True, "rollback": False}},
        Event.ROLL_BACK,
        "app: exit code 3; ECS gave the deployment up; rolled back to web:1",
        "web:1",
    ),
    "circuit breaker on, with rollback": (
        [[Row(0, "going"), Row(30, "rollback", failed=4, reason="tasks failed to start", task=OOM)]],
        {"breaker": {"enable": True, "rollback": True}},
        Event.ROLL_BACK,
        "out of memory; ECS rolled back to web:1",
        "web:1",
    ),
    "the rollback is over before anybody looks again": (
        [[Row(0, "going"), Row(6, "rollback"), Row(7, "rolled_back")]],
        {"breaker": {"enable": True, "rollback": True}},
        Event.ROLL_BACK,
        "ECS gave the deployment up; ECS rolled back to web:1",
        "web:1",
    ),
    "flapping for ever": (
        [FLAPPING],
        {},
        Event.ROLL_BACK,
        "app: exit code 3; not stable after 600 s",
        "web:1",
    ),
    "the first deploy ever fails, and what was there before does not run either": (
        [NEVER, [Row(0, "going"), Row(5, "failed", reason="tasks failed to start")]],
        {"lists": False},
        Event.FAIL,
        "went back to web:1, which ECS gave up as well",
        "web:1",
    ),
    "the way back never becomes stable": (
        [NEVER, NEVER],
        {"lists": False},
        Event.FAIL,
        "went back to web:1, which is not stable either: 0 of 2 tasks run",
        "web:1",
    ),
    "scaled to zero": (
        [[Row(0, "completed")]],
        {"desired": 0},
        Event.COMPLETE,
        "web:2 is in force; the service is scaled to 0, so nothing runs that could prove it",
        "web:2",
    ),
    "a deployment from outside in mid-watch": (
        [[Row(0, "going"), Row(20, "outside")]],
        {},
        Event.SUPERSEDE,
        "another deployment took its place: web:3, registered by user/dana",
        "web:3",
    ),
    "the image cannot be pulled": (
        [[Row(0, "going"), Row(20, "failed", failed=2, task=NO_IMAGE)]],
        {},
        Event.ROLL_BACK,
        "the image cannot be pulled: CannotPullContainerError: not found; ECS gave the deployment up",
        "web:1",
    ),
    "an alarm goes off, and ECS does not roll back": (
        [[Row(0, "going"), Row(20, "failed", running=2, reason="alarm detected", alarms=("5xx", "latency"))]],
        {"alarms": {"alarmNames": ["5xx", "latency", "cpu"], "enable": True, "rollback": False}},
        Event.ROLL_BACK,
        "the alarm 5xx, latency went off; ECS gave the deployment up; rolled back to web:1",
        "web:1",
    ),
    "an alarm goes off, and ECS rolls back a little later": (
        [
            [
                Row(0, "going"),
                Row(20, "failed", running=2, reason="alarm detected", alarms=("5xx",)),
                Row(30, "rollback", alarms=("5xx",)),
            ]
        ],
        {"alarms": {"alarmNames": ["5xx"], "enable": True, "rollback": True}},
        Event.ROLL_BACK,
        "the alarm 5xx went off; ECS rolled back to web:1",
        "web:1",
    ),
    "a health check of the load balancer": (
        [[Row(0, "going"), Row(20, "failed", failed=2, task=UNWELL)]],
        {},
        Event.ROLL_BACK,
        "the load balancer's health checks failed",
        "web:1",
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_verdict_is_the_truth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts, changes, event, reason, runs = SCENARIOS[name]
    changes = dict(changes)
    lists, alarms = changes.pop("lists", True), changes.pop("alarms", {})
    ecs = new_ecs(*scripts, **changes)
    ecs.alarms = cast(dict[str, Any], alarms)
    ecs.lists_service_deployments = bool(lists)
    with playing(ecs, monkeypatch) as player:
        outcome = player.deploy()
    assert outcome.event is event
    assert reason in (outcome.reason or "")
    assert ecs.primary["taskDefinition"].endswith(runs)
    assert [each["taskDefinition"][-5:] for each in ecs.calls("UpdateService")][:1] == ["web:2"]
    assert all("desiredCount" not in each for each in ecs.calls("UpdateService"))
    if "ECS rolled back" in (outcome.reason or ""):
        assert len(ecs.calls("UpdateService")) == 1


def test_a_failure_is_explained_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Row(0, "going", event="(service web) started"),
        Row(30, "failed", failed=4, reason="too many", task=CRASH, alarms=("5xx",)),
    ]
    with playing(new_ecs(rows), monkeypatch) as player:
        explanation = player.deploy().detail["explanation"]
    assert explanation == [
        "ECS: too many",
        "circuit breaker: 4 failed tasks, its threshold is 3",
        "alarm: 5xx",
        "event: (service web) started",
        "task task0: EssentialContainerExited: Essential container in task exited",
        "  app: exit code 3",
        "the last lines of app:",
        "  starting",
        "  no database",
    ]


def test_at_the_deadline_ecs_is_asked_to_stop_and_else_the_earlier_definition_is_deployed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped, updated = new_ecs(NEVER), new_ecs(NEVER)
    updated.lists_service_deployments = False
    for ecs in (stopped, updated):
        with playing(ecs, monkeypatch) as player:
            assert player.deploy().event is Event.ROLL_BACK
    assert (len(stopped.stops), len(stopped.calls("UpdateService"))) == (1, 1)
    assert [each["taskDefinition"][-5:] for each in updated.calls("UpdateService")] == ["web:2", "web:1"]


def test_the_last_five_of_many_stopped_tasks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    crashes = [
        Row(number, "going", failed=1, task=Stopped(f"crash {number}", exit_code=number)) for number in range(1, 24)
    ]
    with playing(new_ecs([Row(0, "going"), *crashes, Row(30, "failed", failed=24)]), monkeypatch) as player:
        explanation = player.deploy().detail["explanation"]
    told = [line for line in explanation if line.startswith("task ")]
    assert [line.rpartition(" ")[2] for line in told] == ["23", "22", "21", "20", "19"]


def test_tasks_that_ended_alike_are_told_once() -> None:
    def stopped(name: str, code: int) -> dict[str, Any]:
        containers = [{"name": "app", "exitCode": code}]
        return {"taskArn": f"x/{name}", "stopCode": "EssentialContainerExited", "containers": containers}

    assert tasks_lines([stopped("c", 3), stopped("b", 1), stopped("a", 3)]) == [
        "2 tasks, last c: EssentialContainerExited: no reason given",
        "  app: exit code 3",
        "task b: EssentialContainerExited: no reason given",
        "  app: exit code 1",
    ]


def test_what_cannot_be_read_is_unknown_and_the_next_one_reconciles(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY)
    with playing(ecs, monkeypatch, step_s=100) as player:

        async def main() -> Event:
            async def log(line: str) -> None:
                if line.startswith("ECS deployment"):
                    ecs.faults["DescribeServices"] = ["denied"] * 100
                await player.lines(line)

            return (await player.target.deploy(player.request(), player.journal, log)).event

        assert asyncio.run(main()) is Event.LOSE_SIGHT
        ecs.faults.clear()
        found = asyncio.run(player.target.reconcile(recorded(player), player.request().settings))
        assert (found.event, found.reason) == (Event.COMPLETE, "web:2 runs")


def test_a_cancelled_deployment_is_stopped_and_followed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(NEVER)
    with playing(ecs, monkeypatch) as player:

        async def main() -> tuple[Event, str | None]:
            async def log(line: str) -> None:
                if "0 of 2 tasks run" in line:
                    player.cancel.set()

            outcome = await player.target.deploy(player.request(), player.journal, log)
            return outcome.event, outcome.reason

        assert asyncio.run(main()) == (Event.ROLL_BACK, "rolled back to web:1")
    assert len(ecs.stops) == 1


def test_a_rollback_deploys_the_recorded_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY, HEALTHY, BACK)
    with playing(ecs, monkeypatch) as player:
        first = player.deploy(1, task_env={"LOG_LEVEL": "info"})
        player.again()
        player.deploy(2, task_env={"LOG_LEVEL": "warn"})
        player.again()
        outcome = player.deploy(3, image=image(1), recorded=first.detail, task_env={"LOG_LEVEL": "warn"})
    assert (outcome.event, ecs.primary["taskDefinition"][-5:]) == (Event.COMPLETE, "web:2")
    assert len(ecs.calls("RegisterTaskDefinition")) == 2


def test_a_recorded_definition_that_is_inactive_is_registered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = new_ecs(HEALTHY, HEALTHY, BACK)
    with playing(ecs, monkeypatch) as player:
        first = player.deploy(1, task_env={"LOG_LEVEL": "info"})
        player.again()
        player.deploy(2, task_env={"LOG_LEVEL": "warn"})
        player.again()
        ecs.definitions[1]["status"] = "INACTIVE"
        outcome = player.deploy(3, image=image(1), recorded=first.detail)
    assert (outcome.event, ecs.primary["taskDefinition"][-5:]) == (Event.COMPLETE, "web:4")
    assert "web:2, which this image was deployed with, is not active any more, and is registered again" in player.said
    last = ecs.calls("RegisterTaskDefinition")[-1]["containerDefinitions"][0]
    assert (last["image"], last["environment"]) == (image(1).pullable, [{"name": "LOG_LEVEL", "value": "info"}])
