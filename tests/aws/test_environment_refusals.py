"""What `seamless env` refuses before anything is changed, and what it says then. The account is moto's."""

from __future__ import annotations

from typing import Any

import pytest

from agent.storing import add_image, new_run
from harness.aws import ACCOUNT, REGION, Refusal
from seamless.agent.cloud_environments import Environments
from seamless.agent.store import Store
from seamless.errors import NotFoundError, RefusedError, UsageError

from .environment_world import ANN, STAGING, World, followed

pytestmark = pytest.mark.fake

NO_TARGET_GROUP = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/x/1"


def test_a_cluster_that_is_there_already_is_only_configured(world: World) -> None:
    world.moto.client("ecs").create_cluster(clusterName="staging")
    refused = world.refusal(lambda: world.up())
    assert refused.message == "there is a cluster staging in eu-central-1 already, which Seamless did not make"
    assert '[environments.staging] target = "ecs", cluster = "staging"' in str(refused.hint)


def test_a_stack_of_somebody_else_is_left_alone(world: World) -> None:
    world.cloudformation.add("seamless-staging", {"Resources": {}}, {"team": "others"}, "CREATE_COMPLETE")
    for call in (world.plan, world.up, world.down):
        assert "is not that of staging" in world.refusal(call).message


def test_a_stack_that_changes_is_not_changed_at_the_same_time(world: World) -> None:
    world.up()
    stack = world.cloudformation.find("seamless-staging")
    assert stack is not None
    stack.status = "UPDATE_IN_PROGRESS"
    for call in (lambda: world.up(log_days=7), world.down):
        assert world.refusal(call).message == "the stack seamless-staging is changing: UPDATE_IN_PROGRESS"


def test_a_cluster_that_others_use_is_not_taken_down(world: World) -> None:
    world.up()
    world.deploy("payment", "payment:1")
    world.deploy("somebody-elses", "x:1")
    refused = world.refusal(world.down)
    assert refused.message == "the cluster staging also runs somebody-elses, which the stack does not own"


def test_a_service_is_not_pulled_from_under_its_deployment(world: World) -> None:
    async def body(one: Environments, store: Store) -> None:
        await followed(one, await one.up(ANN, STAGING, {}))
        for name in ("payment", "worker"):
            world.deploy(name, f"{name}:1")
        run = await store.runs.create(new_run("payment"))
        await store.deployments.record(run, STAGING, await add_image(store, run))
        with pytest.raises(RefusedError, match="payment-1 is being deployed to staging"):
            await one.up(ANN, STAGING, {"services": {"payment": {"count": 2}}})
        with pytest.raises(RefusedError, match="payment-1 is being deployed to staging"):
            await one.up(ANN, STAGING, {"remove": ["payment"]})
        with pytest.raises(RefusedError, match="payment-1 is being deployed to staging"):
            await one.down(ANN, STAGING, "staging", None, None)
        worker = await one.up(ANN, STAGING, {"services": {"worker": {"count": 2}}})
        assert worker["action"] == "change"

    world.play(body)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"services": {"payment": {"cpu": 256, "memory": 4096}}}, "payment: 256 CPU units go with 512, 1024 or 2048"),
        ({"services": {"gateway": {}}}, "there is no service gateway"),
        (
            {"services": {"worker": {"target_group": NO_TARGET_GROUP}}},
            "needs port",
        ),
        ({"services": {"payment": {"target_group": "x"}}}, "'x' is not the ARN of a load balancer's target group"),
        (
            {"services": {"payment": {"target_group": NO_TARGET_GROUP}}},
            "there is no target group arn:",
        ),
        ({"subnets": ["subnet-00000000"]}, "subnet-00000000"),
        ({"vpc": "vpc-00000000"}, "the VPC vpc-00000000 has no subnets"),
        ({"log_days": 8}, "log_days: CloudWatch keeps logs for"),
    ],
)
def test_what_cannot_be_is_refused(world: World, asked: dict[str, Any], said: str) -> None:
    assert said in world.refusal(lambda: world.up(**asked)).message


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"kind": "instance"}, "the target group tg is of type instance"),
        ({"listens": False}, "no load balancer uses the target group tg"),
    ],
)
def test_a_target_group_that_fargate_cannot_stand_behind_is_refused(
    world: World, group: dict[str, Any], said: str
) -> None:
    target = world.target_group(**group)
    refused = world.refusal(lambda: world.up(services={"payment": {"target_group": target}}))
    assert refused.message == said
    assert refused.hint


def test_an_environment_does_not_move(world: World) -> None:
    world.up()
    other = world.moto.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    assert f"cannot move to {other}" in world.refusal(lambda: world.up(vpc=other)).message


def test_what_is_not_there_is_not_taken_down(world: World) -> None:
    refused = world.refusal(world.down)
    assert isinstance(refused, NotFoundError)
    assert refused.hint == "what seamless env up did not make, seamless env down does not touch"


def test_the_name_must_be_typed(world: World) -> None:
    world.up()
    refused = world.refusal(lambda: world.play(lambda one, _: one.down(ANN, STAGING, "production", None, None)))
    assert isinstance(refused, UsageError)


def test_a_permission_that_is_missing_is_named(world: World) -> None:
    world.moto.refuse("DescribeClusters", Refusal("AccessDeniedException", "User: x is not authorized"))
    refused = world.refusal(lambda: world.up())
    assert "ecs:DescribeClusters" in refused.message
    assert str(refused.hint).startswith("allow ecs:DescribeClusters")


def test_a_refusal_is_a_refused_error_where_the_state_is_at_fault(world: World) -> None:
    world.moto.client("ecs").create_cluster(clusterName="staging")
    assert isinstance(world.refusal(lambda: world.up()), RefusedError)
