"""What a deployment to ECS refuses before it changes anything, and what it says then. ECS is scripted."""

from __future__ import annotations

from typing import Any

import pytest

from seamless.transitions import DeploymentEvent as Event

from .ecs_playing import Player

pytestmark = pytest.mark.fake


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
