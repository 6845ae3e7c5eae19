"""CloudFormation that fails, rolls back, gets stuck or loses an answer while an environment changes.
EC2 and ECS are moto's."""

from __future__ import annotations

from typing import Any

import pytest

from harness.aws import Refusal
from harness.cloudformation import Step
from seamless import wire_environments
from seamless.agent.cloud_environments import Environments
from seamless.agent.store import Store
from seamless.aws.sessions import Clouds

from .environment_world import ANN, STAGING, World, followed, results

pytestmark = pytest.mark.fake

BREAKER = "Resource handler returned message: ECS Deployment Circuit Breaker was triggered."
FAILING_CREATE: list[Step] = [
    [("PaymentTaskRole", "CREATE_IN_PROGRESS", None)],
    [("PaymentService", "CREATE_FAILED", BREAKER), ("WorkerService", "CREATE_FAILED", "Resource creation cancelled")],
    [("seamless-staging", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [PaymentService].")],
    [("PaymentTaskRole", "DELETE_COMPLETE", None), ("seamless-staging", "DELETE_COMPLETE", None)],
]
FAILING_UPDATE: list[Step] = [
    [("PaymentService", "UPDATE_FAILED", BREAKER)],
    [("seamless-staging", "UPDATE_ROLLBACK_IN_PROGRESS", None)],
    [("seamless-staging", "UPDATE_ROLLBACK_COMPLETE", None)],
]
STUCK_UPDATE: list[Step] = [[("seamless-staging", "UPDATE_ROLLBACK_FAILED", "PaymentService is in the way")]]
FAILING_DELETE: list[Step] = [
    [("EnvironmentMembers", "DELETE_FAILED", "resource sg-1 has a dependent object")],
    [("seamless-staging", "DELETE_FAILED", "The following resource(s) failed to delete: [EnvironmentMembers].")],
]


def test_a_first_time_that_fails_says_why_and_leaves_nothing(world: World) -> None:
    world.cloudformation.scripts.append(FAILING_CREATE)
    _, steps = world.up()
    assert results(steps) == {
        "ok": False,
        "status": "DELETE_COMPLETE",
        "reasons": [f"PaymentService: {BREAKER}"],
    }
    assert world.plan()["action"] == "create"
    _, steps = world.up()
    assert results(steps)["ok"]


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        (FAILING_UPDATE, "UPDATE_ROLLBACK_COMPLETE", f"PaymentService: {BREAKER}"),
        (STUCK_UPDATE, "UPDATE_ROLLBACK_FAILED", "seamless-staging: PaymentService is in the way"),
    ],
)
def test_a_change_that_fails_says_why(world: World, script: Any, status: str, reason: str) -> None:
    world.up()
    world.cloudformation.scripts.append(script)
    _, steps = world.up(services={"payment": {}}, log_days=7)
    assert results(steps) == {"ok": False, "status": status, "reasons": [reason]}
    if status == "UPDATE_ROLLBACK_COMPLETE":
        assert world.plan(log_days=3)["action"] == "change"
    else:
        refused = world.refusal(lambda: world.up(log_days=3))
        assert refused.message.endswith("UPDATE_ROLLBACK_FAILED, which CloudFormation does not change")


def test_what_cannot_be_deleted_is_named(world: World) -> None:
    world.up()
    world.cloudformation.scripts.append(FAILING_DELETE)
    result = results(world.down())
    assert (result["ok"], result["status"]) == (False, "DELETE_FAILED")
    assert result["reasons"][0] == "EnvironmentMembers: resource sg-1 has a dependent object"
    assert results(world.down())["ok"], "again, and now it goes"


def test_aws_in_trouble_is_waited_for_while_a_stack_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless.aws.sessions._ATTEMPTS", 1)
    world.clouds = Clouds()
    world.cloudformation.scripts.append([[], [("seamless-staging", "CREATE_COMPLETE", None)]])

    async def body(one: Environments, _: Store) -> list[wire_environments.StackProgressJSON]:
        operation = await one.up(ANN, STAGING, {})
        world.moto.refuse("DescribeStackEvents", Refusal("Throttling"), Refusal("InternalFailure", status=500))
        return await followed(one, operation)

    try:
        assert results(world.play(body))["ok"]
    finally:
        world.clouds.close()


def test_an_answer_that_is_lost_after_the_effect_is_asked_for_again_and_nothing_is_done_twice(world: World) -> None:
    world.cloudformation.lost = ["CreateStack", "UpdateStack", "DeleteStack"]
    assert results(world.up()[1])["ok"]
    assert results(world.up(log_days=7)[1])["status"] == "UPDATE_COMPLETE"
    assert results(world.down())["ok"]
    assert world.cloudformation.lost == []
    (stack,) = world.cloudformation.stacks
    begun = [status for _, _, name, status, reason in stack.events if reason == "User Initiated"]
    assert begun == ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"]
