"""Deployments to a scripted ECS: each scenario is a table of what ECS does. All of it is simulated."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from harness.ecs_rows import BACK, HEALTHY, Row, Stopped
from harness.scripted_ecs import ScriptedEcs
from seamless.errors import StageError
from seamless.model import Deployment, Environment, Trigger, utc_now
from seamless.targets.ecs_explain import tasks_lines
from seamless.targets.ecs_plan import tags_of
from seamless.transitions import DeploymentEvent as Event
from seamless.transitions import DeploymentState

from .ecs_playing import DEFINITION, INSTALLATION, Player, image, new_ecs, playing

pytestmark = pytest.mark.fake

NEVER = [Row(0, "going")]
OOM = Stopped("Essential container in task exited", exit_code=137, container_reason="OutOfMemoryError: killed")
CRASH = Stopped("Essential container in task exited", exit_code=3, lines=("starting", "no database"))
NO_IMAGE = Stopped("CannotPullContainerError: not found", "TaskFailedToStart")
UNWELL = Stopped("Task failed ELB health checks in (target-group x)", "ServiceSchedulerInitiated")
FLAPPING = [
    Row(step * 30, "going", running=step % 2, failed=step, task=CRASH, event=f"(service web) has started task {step}")
    for step in range(1, 40)
]


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Player]:
    with playing(new_ecs(HEALTHY), monkeypatch) as player:
        yield player


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


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"deploymentController": {"type": "CODE_DEPLOY"}}, "deployed by CODE_DEPLOY, and Seamless follows rolling"),
        ({"deploymentConfiguration": {"strategy": "BLUE_GREEN"}}, "deployed by BLUE_GREEN"),
        ({"loadBalancers": [{"loadBalancerName": "old"}]}, "behind a Classic Load Balancer"),
    ],
)
def test_what_could_not_be_followed_is_refused(settings: dict[str, Any], reason: str, healthy: Player) -> None:
    healthy.ecs.other = settings
    assert reason in (healthy.deploy().reason or "")
    assert healthy.ecs.calls("RegisterTaskDefinition") == []


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


def recorded(player: Player) -> Deployment:
    request = player.request()
    return Deployment(
        id=1, service="web", environment=Environment.PRODUCTION, run="web-1", trigger=Trigger.MAIN,
        commit=request.commit, image=request.image, state=DeploymentState.UNKNOWN, reason=None, created_at=utc_now(),
        ended_at=None, journal=player.journal.entries,
        detail=(player.journal.get("outcome") or {}).get("detail", {}),
    )  # fmt: skip


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


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such cluster": ({"cluster": "prd"}, "there is no ECS cluster prd in eu-central-1"),
    "no such service": ({"service": "wbe"}, "the cluster's services: web"),
    "no such container": ({"container": "main"}, "has no container main, only app, proxy"),
    "a secret of the build host": ({"task_secrets": {"A": {"env": "A_TOKEN"}}}, "a task of ECS cannot read it there"),
    "no network for the task before": ({"before_deploy": "true"}, "has no network settings"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_changed(name: str, healthy: Player) -> None:
    changes, reason = REFUSED[name]
    outcome = healthy.deploy(**changes)
    assert outcome.event is Event.FAIL
    assert reason in (outcome.reason or "")
    assert {call for call, _ in healthy.ecs.requests} <= {"DescribeServices", "DescribeTaskDefinition", "ListServices"}


def test_secrets_without_a_role_to_read_them_are_refused(healthy: Player) -> None:
    del healthy.ecs.definitions[0]["executionRoleArn"]
    assert "no execution role" in (healthy.deploy(task_secrets={"A": {"ssm": "/a"}}).reason or "")
    assert healthy.ecs.calls("RegisterTaskDefinition") == []


@pytest.mark.parametrize(
    ("platforms", "reason"),
    [
        (None, "is not in its registry"),
        (["linux/arm64"], "the image is for linux/arm64, and the task definition for X86_64"),
    ],
)
def test_an_image_that_no_task_could_run_is_refused(platforms: list[str] | None, reason: str, healthy: Player) -> None:
    healthy.platforms = platforms
    assert reason in (healthy.deploy().reason or "")
    assert healthy.ecs.calls("RegisterTaskDefinition") == []


@pytest.mark.parametrize("operation", ["DescribeServices", "RegisterTaskDefinition", "UpdateService"])
def test_a_permission_that_lacks_is_named(operation: str, healthy: Player) -> None:
    healthy.ecs.faults[operation] = ["denied"]
    outcome = healthy.deploy()
    assert outcome.event is Event.FAIL
    assert f"allow ecs:{operation}" in (outcome.reason or "")
    assert "the service was not changed" in (outcome.reason or "")


def test_what_the_service_runs_is_told_and_who_put_it_there(healthy: Player) -> None:
    request = healthy.request()

    async def current() -> tuple[str | None, int | None, bool]:
        release = await healthy.target.current("web", Environment.PRODUCTION, request.settings)
        assert release is not None
        return release.image.digest, release.deployment, release.healthy

    def drift() -> str | None:
        (told,) = asyncio.run(healthy.target.drift([(recorded(healthy), request.settings)]))
        return told

    assert asyncio.run(current()) == (f"sha256:{'0' * 64}", None, True)
    healthy.deploy()
    assert asyncio.run(current())[:2] == (image(1).digest, 1)
    assert drift() is None
    trail = {"cluster": "prod", "service": "web"}
    healthy.ecs.trail = [
        {"Username": "robin", "CloudTrailEvent": '{"requestParameters": {"cluster": "prod", "service": "other"}}'},
        {"Username": "dana", "CloudTrailEvent": f'{{"requestParameters": {str(trail).replace(chr(39), chr(34))}}}'},
    ]
    healthy.ecs.deploy_from_outside()
    assert drift() == "runs web:3 registered by user/dana, and web-1 deployed web:2"
    healthy.ecs.definitions[-1]["registeredBy"] = ""
    assert drift() == "runs web:3, and web-1 deployed web:2; dana updated the service"


def test_many_services_are_asked_for_drift_ten_at_once(healthy: Player) -> None:
    healthy.deploy()
    mine = recorded(healthy)
    others = [dataclasses.replace(mine, id=2 + number, service=f"other-{number}") for number in range(24)]
    current = [(one, healthy.request(service=one.service).settings) for one in [mine, *others]]
    healthy.ecs.requests.clear()
    found = asyncio.run(healthy.target.drift(current))
    assert found == [
        None,
        *(f"has no service {one.service} in the cluster prod any more, and web-1 deployed web:2" for one in others),
    ]
    assert [len(call["services"]) for call in healthy.ecs.calls("DescribeServices")] == [10, 10, 5]
    with pytest.raises(StageError, match="there is no ECS cluster prd in eu-central-1"):
        asyncio.run(healthy.target.drift([(mine, healthy.request(cluster="prd").settings)]))


def test_the_difference_can_be_seen_without_deploying(healthy: Player) -> None:
    lines = asyncio.run(healthy.target.difference(healthy.request(task_env={"LOG_LEVEL": "info", "NEW": "1"})))
    assert lines == [
        f"app: image: {DEFINITION['containerDefinitions'][0]['image']} → {image(1).pullable}",
        "app: environment LOG_LEVEL: info, another value before",
        "app: environment NEW: added, 1",
    ]
    assert {call for call, _ in healthy.ecs.requests} == {"DescribeServices", "DescribeTaskDefinition"}
