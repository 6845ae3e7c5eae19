"""Environments planned, made, changed and taken down. EC2, ECS and load balancers are moto's; CloudFormation, its
failures and rollbacks, is from a script."""

from __future__ import annotations

import json

import pytest

from harness.aws import REGION, Refusal
from seamless import wire_environments
from seamless.agent.cloud_environments import Environments
from seamless.agent.store import Store
from seamless.errors import ForbiddenError

from .environment_world import ANN, BOB, STAGING, World, followed, results, template_of

pytestmark = pytest.mark.fake


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
    def show() -> wire_environments.EnvironmentJSON:
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
