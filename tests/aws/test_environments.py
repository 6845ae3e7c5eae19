"""Environments planned, made, changed and taken down. EC2, ECS and load balancers are moto's; CloudFormation, its
failures and rollbacks, is from a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from agent.storing import add_image, new_run, with_store
from harness.aws import ACCOUNT, REGION, Moto, Refusal
from harness.cloudformation import CloudFormation, Step
from seamless import wire
from seamless.agent.access import Role
from seamless.agent.access import require as required
from seamless.agent.cloud_environments import Environments
from seamless.agent.operations import Operations
from seamless.agent.registries import Registries
from seamless.agent.resources import Resources
from seamless.agent.store import Store
from seamless.aws.ecr import Ecr
from seamless.aws.sessions import Account, Clouds
from seamless.aws.stacks import Stacks
from seamless.config import config_from
from seamless.errors import ForbiddenError, NotFoundError, RefusedError, SeamlessError, UsageError
from seamless.model import Actor, Environment

pytestmark = pytest.mark.fake

T = TypeVar("T")
STAGING = Environment.STAGING
NO_TARGET_GROUP = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/x/1"
ANN, BOB = Actor("ann", 4242), Actor("bob", 4243)


class World:
    """Environments over moto and a scripted CloudFormation."""

    def __init__(self, moto: Moto, clouds: Clouds, folder: Path) -> None:
        self.moto, self.clouds, self.folder = moto, clouds, folder
        self.environment = STAGING
        self.cloudformation = CloudFormation(moto)
        self.config: dict[str, Any] = {
            "aws": {"region": REGION, "endpoint_url": moto.url},
            "access": {"admins": ["ann"], "approvers": ["bob"]},
            "services": {
                "payment": {
                    "repo": "https://git.example/payment",
                    "port": 3000,
                    "health": "/healthz",
                    "environments": {"staging": {"secrets": {"DB": {"ssm": "/payment/db:3"}}}},
                },
                "worker": {"repo": "https://git.example/worker", "registry": "ghcr.io/acme"},
                "only-production": {"repo": "https://git.example/other", "use_staging": False},
            },
        }

    def play(self, body: Callable[[Environments, Store], Awaitable[T]]) -> T:
        config = config_from(self.config, self.folder / "seamless.toml")
        operations = SimpleNamespace(
            require=lambda actor, role, what: required(actor, cast(Role, role), config.access, what)
        )

        async def with_environments(store: Store) -> T:
            registries = Registries(lambda: config, Ecr(self.clouds))
            resources = SimpleNamespace(config=lambda: config, clouds=self.clouds, store=store, registries=registries)

            def stacks(account: Account) -> Stacks:
                return Stacks(account, poll_s=0.005)

            environments = Environments(cast(Resources, resources), cast(Operations, operations), stacks)
            return await body(environments, store)

        return with_store(self.folder / "seamless.db", with_environments)

    def plan(self, **asked: Any) -> wire.EnvironmentPlanJSON:
        return self.play(lambda one, _: one.plan(ANN, self.environment, cast(wire.EnvironmentRequest, asked)))

    def up(self, **asked: Any) -> tuple[str, list[wire.StackProgressJSON]]:
        """What it did, and each step of its progress."""

        async def body(one: Environments, _: Store) -> tuple[str, list[wire.StackProgressJSON]]:
            operation = await one.up(ANN, self.environment, cast(wire.EnvironmentRequest, asked))
            return operation["action"], await followed(one, operation, self.environment)

        return self.play(body)

    def down(self) -> list[wire.StackProgressJSON]:
        async def body(one: Environments, _: Store) -> list[wire.StackProgressJSON]:
            return await followed(one, await one.down(ANN, STAGING, "staging", None, None))

        return self.play(body)

    def refusal(self, call: Callable[[], object]) -> SeamlessError:
        """Why it was refused; nothing was changed by it."""
        self.moto.calls.clear()
        with pytest.raises(SeamlessError) as refused:
            call()
        changing = ("Create", "Update", "Delete", "Put", "Register")
        assert [action for action, _ in self.moto.calls if action.startswith(changing)] == []
        return refused.value

    def target_group(self, kind: str = "ip", *, vpc: str | None = None, listens: bool = True) -> str:
        """A target group behind a load balancer with a security group; returns its ARN."""
        ec2, elb = self.moto.client("ec2"), self.moto.client("elbv2")
        default = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
        group = ec2.create_security_group(GroupName="lb", Description="lb", VpcId=default)["GroupId"]
        arn = elb.create_target_group(Name="tg", Protocol="HTTP", Port=80, VpcId=vpc or default, TargetType=kind)
        target = str(arn["TargetGroups"][0]["TargetGroupArn"])
        if listens:
            balancer = elb.create_load_balancer(Name="lb", Subnets=subnets, SecurityGroups=[group])
            elb.create_listener(
                LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"],
                Protocol="HTTP",
                Port=80,
                DefaultActions=[{"Type": "forward", "TargetGroupArn": target}],
            )
        return target

    def deploy(self, service: str, image: str) -> None:
        """What ECS would have after `env up` and a deployment."""
        ecs = self.moto.client("ecs")
        ecs.create_cluster(clusterName="staging")
        container = {"name": service, "image": image, "memory": 256, "environment": [{"name": "A", "value": "b"}]}
        ecs.register_task_definition(family=f"staging-{service}", containerDefinitions=[container])
        ecs.create_service(cluster="staging", serviceName=service, taskDefinition=f"staging-{service}", desiredCount=1)


async def followed(
    one: Environments, operation: wire.StackOperationJSON, environment: Environment = STAGING
) -> list[wire.StackProgressJSON]:
    since = datetime.fromisoformat(operation["since"])
    async with asyncio.timeout(60):
        steps = one.follow(environment, operation["stack"]["id"], since, operation["action"], None, None)
        return [step async for step in steps]


@pytest.fixture
def world(moto: Moto, clouds: Clouds, tmp_path: Path) -> World:
    return World(moto, clouds, tmp_path)


def template_of(world: World) -> dict[str, Any]:
    stack = world.cloudformation.find("seamless-staging")
    assert stack is not None
    found: dict[str, Any] = json.loads(stack.template)
    return found


def results(steps: list[wire.StackProgressJSON]) -> wire.StackResultJSON:
    (result,) = [step["result"] for step in steps if "result" in step]
    assert "result" in steps[-1]
    return result


def test_an_environment_needs_no_more_than_its_name(world: World) -> None:
    plan = world.plan()
    assert (plan["action"], plan["stack"], plan["cluster"]) == ("create", "seamless-staging", "staging")
    facts = plan["facts"]
    assert facts["vpc"].startswith("vpc-")
    assert len(facts["subnets"]) == 3
    assert facts["public_address"] is True
    payment, worker = facts["services"]
    assert (payment["name"], payment["port"], payment["repository"]) == ("payment", 3000, "payment")
    assert payment["parameters"] == ("/payment/db",)
    assert (worker["name"], "port" in worker, "repository" in worker) == ("worker", False, False)
    assert plan["monthly_usd"] == pytest.approx(2 * 12.66, abs=0.02)
    assert world.cloudformation.stacks == []


def test_it_is_made_as_it_was_planned_and_every_step_is_told_once(world: World) -> None:
    plan = world.plan()
    action, steps = world.up(fingerprint=plan["fingerprint"])
    assert action == "create"
    assert template_of(world) == json.loads(plan["template"])
    assert results(steps) == {"ok": True, "status": "CREATE_COMPLETE", "reasons": []}
    told = [(step["event"]["resource"], step["event"]["status"]) for step in steps if "event" in step]
    resources = json.loads(plan["template"])["Resources"]
    assert len(told) == len(set(told)) == 2 * len(resources) + 2
    assert told[0] == ("seamless-staging", "CREATE_IN_PROGRESS")
    assert told[-1] == ("seamless-staging", "CREATE_COMPLETE")
    (call,) = world.moto.called("CreateStack")
    assert (call["OnFailure"], call["Capabilities.member.1"]) == ("DELETE", "CAPABILITY_IAM")


def test_who_does_it_is_recorded_and_who_is_no_admin_may_not(world: World) -> None:
    async def body(one: Environments, store: Store) -> list[tuple[str, str | None, str]]:
        for forbidden in (one.plan(BOB, STAGING, {}), one.up(BOB, STAGING, {})):
            with pytest.raises(ForbiddenError, match="bob may not make the environment staging"):
                await forbidden
        await followed(one, await one.up(ANN, STAGING, {}))
        with pytest.raises(ForbiddenError, match="bob may not take the environment staging down"):
            await one.down(BOB, STAGING, "staging", None, None)
        await followed(one, await one.down(ANN, STAGING, "staging", None, None))
        events = await store.events.page(kind="action")
        return [(event.name, event.actor, event.data["action"]) for event in events]

    assert world.play(body) == [("env_up", "ann", "create"), ("env_down", "ann", "delete")]


def test_a_plan_that_is_not_true_any_more_is_not_carried_out(world: World) -> None:
    plan = world.plan()
    world.config["services"]["payment"]["port"] = 3001
    refused = world.refusal(lambda: world.up(fingerprint=plan["fingerprint"]))
    assert refused.message == "staging is not any more what it was when you looked"


def test_a_public_service_lets_in_its_load_balancer(world: World) -> None:
    target = world.target_group()
    plan = world.plan(services={"payment": {"target_group": target}})
    (payment,) = plan["facts"]["services"]
    assert payment["target_group"] == target
    assert [group.startswith("sg-") for group in payment["reached_from"]] == [True]


def test_a_change_keeps_what_runs_and_leaves_the_others_alone(world: World) -> None:
    world.up()
    before = template_of(world)
    world.deploy("payment", "payment@sha256:" + "1" * 64)
    world.deploy("worker", "worker@sha256:" + "2" * 64)
    plan = world.plan(services={"payment": {"cpu": 1024}})
    assert plan["deployed_anew"] == ["payment"]
    assert [(one["action"], one["name"]) for one in plan["changes"]] == [("change", "PaymentTaskDefinition")]
    action, steps = world.up(services={"payment": {"cpu": 1024}}, fingerprint=plan["fingerprint"])
    assert action == "change"
    assert results(steps)["status"] == "UPDATE_COMPLETE"
    events = [step["event"]["status"] for step in steps if "event" in step]
    assert not any(status.startswith("CREATE") for status in events), "what happened before is not told again"
    after = template_of(world)["Resources"]
    payment = after["PaymentTaskDefinition"]["Properties"]
    assert (payment["Cpu"], payment["Memory"]) == ("1024", "2048")
    assert payment["ContainerDefinitions"][0]["Image"] == "payment@sha256:" + "1" * 64
    assert after["WorkerTaskDefinition"] == before["Resources"]["WorkerTaskDefinition"]


def test_asked_for_again_nothing_is_done(world: World) -> None:
    world.up()
    world.moto.calls.clear()
    plan = world.plan()
    assert (plan["action"], plan["changes"]) == ("nothing", [])


def test_a_service_is_added_and_removed(world: World) -> None:
    world.up(services={"payment": {}})
    world.deploy("payment", "payment:1")
    added = world.plan(services={"worker": {"count": 2}})
    assert {one["action"] for one in added["changes"]} == {"add"}
    world.up(services={"worker": {"count": 2}})
    removed = world.plan(remove=["payment"])
    assert {(one["action"], one["name"].startswith("Payment")) for one in removed["changes"]} == {("remove", True)}
    refused = world.refusal(lambda: world.plan(remove=["gateway"]))
    assert (refused.message, refused.hint) == ("gateway is not in staging", "there are payment, worker")


def test_credentials_that_expire_in_mid_stack_do_not_lose_it(world: World) -> None:
    """From the moment on in which the stack is being made; a second refusal of a call is told as expired."""
    expired = [Refusal("ExpiredToken", status=403)] * 5

    def expire() -> None:
        world.moto.refuse("DescribeStacks", *expired)
        world.moto.refuse("DescribeStackEvents", *expired)

    world.moto.before("CreateStack", expire)
    _, steps = world.up()
    assert results(steps)["ok"]
    told = [(step["event"]["resource"], step["event"]["status"]) for step in steps if "event" in step]
    assert len(told) == len(set(told)) == 2 * len(template_of(world)["Resources"]) + 2
    assert len(world.moto.called("CreateStack")) == 1


# -- CloudFormation fails: a script each

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

    async def body(one: Environments, _: Store) -> list[wire.StackProgressJSON]:
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


# -- refused before anything is changed


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


def test_a_large_environment_goes_through_a_bucket(world: World) -> None:
    for number in range(20):
        world.config["services"][f"service-{number}"] = {"repo": "https://git.example/x", "port": 3000}
    refused = world.refusal(lambda: world.up())
    assert "and CloudFormation takes 51200 at once" in refused.message
    assert str(refused.hint).endswith("--bucket NAME")
    world.moto.client("s3").create_bucket(Bucket="templates", CreateBucketConfiguration={"LocationConstraint": REGION})
    plan = world.plan()
    _, steps = world.up(bucket="templates")
    assert results(steps)["ok"]
    assert template_of(world) == json.loads(plan["template"])


def test_what_is_there_is_shown(world: World) -> None:
    def show() -> wire.EnvironmentJSON:
        return world.play(lambda one, _: one.show(STAGING, None, None))

    nothing = show()
    assert (nothing["stack"], nothing["facts"], nothing["services"]) == (None, None, [])
    world.up()
    world.deploy("payment", "payment:1")
    world.config["environments"] = {"staging": {"target": "ecs", "cluster": "staging"}}
    found = show()
    assert found["configured"]
    assert found["stack"] is not None
    assert found["stack"]["status"] == "CREATE_COMPLETE"
    (service,) = found["services"]
    assert (service["name"], service["desired"], service["task_definition"]) == ("payment", 1, "staging-payment:1")


def test_a_refusal_is_a_refused_error_where_the_state_is_at_fault(world: World) -> None:
    world.moto.client("ecs").create_cluster(clusterName="staging")
    assert isinstance(world.refusal(lambda: world.up()), RefusedError)
