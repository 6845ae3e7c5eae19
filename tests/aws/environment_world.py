"""Environments over moto and a scripted CloudFormation: what the tests of `seamless env` share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from agent.storing import with_store
from harness.aws import REGION, Moto
from harness.cloudformation import CloudFormation
from seamless import wire_environments
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
from seamless.errors import SeamlessError
from seamless.model import Actor, Environment

T = TypeVar("T")
STAGING = Environment.STAGING
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

    def plan(self, **asked: Any) -> wire_environments.EnvironmentPlanJSON:
        return self.play(
            lambda one, _: one.plan(ANN, self.environment, cast(wire_environments.EnvironmentRequest, asked))
        )

    def up(self, **asked: Any) -> tuple[str, list[wire_environments.StackProgressJSON]]:
        """What it did, and each step of its progress."""

        async def body(one: Environments, _: Store) -> tuple[str, list[wire_environments.StackProgressJSON]]:
            operation = await one.up(ANN, self.environment, cast(wire_environments.EnvironmentRequest, asked))
            return operation["action"], await followed(one, operation, self.environment)

        return self.play(body)

    def down(self) -> list[wire_environments.StackProgressJSON]:
        async def body(one: Environments, _: Store) -> list[wire_environments.StackProgressJSON]:
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
    one: Environments, operation: wire_environments.StackOperationJSON, environment: Environment = STAGING
) -> list[wire_environments.StackProgressJSON]:
    since = datetime.fromisoformat(operation["since"])
    async with asyncio.timeout(60):
        steps = one.follow(environment, operation["stack"]["id"], since, operation["action"], None, None)
        return [step async for step in steps]


def template_of(world: World) -> dict[str, Any]:
    stack = world.cloudformation.find("seamless-staging")
    assert stack is not None
    found: dict[str, Any] = json.loads(stack.template)
    return found


def results(steps: list[wire_environments.StackProgressJSON]) -> wire_environments.StackResultJSON:
    (result,) = [step["result"] for step in steps if "result" in step]
    assert "result" in steps[-1]
    return result
