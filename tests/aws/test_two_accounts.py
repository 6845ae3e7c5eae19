"""A service that is not where its environment is: in a cluster, region and account of its own. AWS is moto, with two
accounts; it knows no deployments of a service, which the test drives, and CloudFormation is from a script."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from moto.ecs.models import ecs_backends

from harness.aws import ACCOUNT, REGION, Moto, Refusal
from seamless.agent.environments import settings_of
from seamless.agent.registries import Registries
from seamless.aws.ecr import Ecr
from seamless.aws.examining import examine_aws
from seamless.aws.sessions import Clouds
from seamless.config import Config, config_from
from seamless.model import DigestKind, Environment, ImageRef, Trust
from seamless.targets import DeployOutcome, DeployRequest
from seamless.targets.ecs import EcsTarget
from seamless.transitions import DeploymentEvent
from targets.deploying import Lines, MemoryJournal
from targets.ecs_playing import DEFINITION

from .environment_world import World, results
from .test_ecs_moto import Quick

pytestmark = pytest.mark.fake

OTHER: Final = "210987654321"
ROLE: Final = f"arn:aws:iam::{OTHER}:role/deploy"
ELSEWHERE: Final = "us-west-2"
PRODUCTION: Final = Environment.PRODUCTION


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    """Its own for each test: moto forgets the roles that were assumed."""
    one = Clouds()
    yield one
    one.close()


def config(moto: Moto, folder: Path, **more: Any) -> Config:
    own = {"cluster": "pay", "region": ELSEWHERE, "assume_role": ROLE}
    document: dict[str, Any] = {
        "environments": {
            "production": {"target": "ecs", "cluster": "prod", "region": REGION, "endpoint_url": moto.url}
        },
        "services": {
            "web": {"repo": "https://git.example/web", "ecs": {"container": "app"}},
            "pay": {
                "repo": "https://git.example/pay",
                "ecs": {"container": "app"},
                "environments": {"production": {"secrets": {"DB": {"ssm": "/pay/db"}}, "ecs": own}},
            },
        },
    }
    return config_from(document | more, folder / "seamless.toml")


def other_account(moto: Moto, service: str) -> Any:
    given = moto.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    session: Any = boto3.Session(
        given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=ELSEWHERE
    )
    return session.client(service, endpoint_url=moto.url)


def make(ecs: Any, cluster: str, service: str) -> None:
    definition = copy.deepcopy(DEFINITION) | {"family": service}
    del definition["executionRoleArn"]
    ecs.create_cluster(clusterName=cluster)
    ecs.register_task_definition(**definition)
    ecs.create_service(cluster=cluster, serviceName=service, taskDefinition=f"{service}:1", desiredCount=1)


def drive() -> None:
    """Every service's newest task definition is deployed at once."""
    for account, region in ((ACCOUNT, REGION), (OTHER, ELSEWHERE)):
        for each in ecs_backends[account][region].services.values():
            service: Any = each
            newest = service.deployments[0]
            newest.update(rolloutState="COMPLETED", runningCount=newest["desiredCount"])
            if newest["taskDefinition"] != service.task_definition:
                changed = {"id": f"ecs-svc/{len(service.deployments)}", "taskDefinition": service.task_definition}
                newest["status"] = "ACTIVE"
                service.deployments.insert(0, {**newest, **changed, "status": "PRIMARY"})


async def deploy(clouds: Clouds, known: Config, name: str) -> DeployOutcome:
    async def platforms(_: ImageRef) -> Sequence[str]:
        return ["linux/amd64"]

    parameters = known.services[name]
    request = DeployRequest(
        deployment=1,
        run=f"{name}-1",
        service=name,
        environment=PRODUCTION,
        commit="1" * 40,
        image=ImageRef(f"sha256:{'7' * 64}", DigestKind.MANIFEST, f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}"),
        settings=settings_of(known, parameters, PRODUCTION),
        port=None,
        publish=None,
        health="",
        deadline_s=10.0,
    )
    return await EcsTarget("0badcafe", clouds.account, platforms, Quick()).deploy(request, MemoryJournal(), Lines())


def test_two_accounts_are_deployed_to_at_once(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    known = config(moto, tmp_path)
    ecs, other = moto.client("ecs"), other_account(moto, "ecs")
    make(ecs, "prod", "web")
    make(other, "pay", "pay")
    other_account(moto, "ssm").put_parameter(Name="/pay/db", Value="secret", Type="SecureString")
    role = f"arn:aws:iam::{OTHER}:role/pay-execution"
    other_account(moto, "iam").create_role(RoleName="pay-execution", AssumeRolePolicyDocument="{}")
    ecs_backends[OTHER][ELSEWHERE].describe_task_definition("pay:1").execution_role_arn = role
    moto.before("DescribeServices", drive)
    moto.refuse("ListServiceDeployments", *[Refusal("UnsupportedFeatureException")] * 10)

    async def both() -> tuple[DeployOutcome, DeployOutcome]:
        return await asyncio.gather(deploy(clouds, known, "web"), deploy(clouds, known, "pay"))

    web, pay = asyncio.run(both())
    assert [web.event, pay.event] == [DeploymentEvent.COMPLETE] * 2, (web.reason, pay.reason)
    assert web.detail["task_definition"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/web:2"
    assert pay.detail["task_definition"] == f"arn:aws:ecs:{ELSEWHERE}:{OTHER}:task-definition/pay:2"
    deployed = other.describe_task_definition(taskDefinition="pay:2")["taskDefinition"]["containerDefinitions"][0]
    assert deployed["secrets"] == [{"name": "DB", "valueFrom": f"arn:aws:ssm:{ELSEWHERE}:{OTHER}:parameter/pay/db"}]
    assert ecs.list_task_definitions(familyPrefix="pay")["taskDefinitionArns"] == []


def test_doctor_looks_at_each_place(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    moto.refuse("SimulatePrincipalPolicy", *[Refusal("AccessDenied", status=403)] * 2)
    make(moto.client("ecs"), "prod", "web")
    found = asyncio.run(examine_aws(config(moto, tmp_path), clouds))
    told = {each.subject: each for each in found}
    assert told["environments.production.cluster"].what == "prod with 1 of 1 services"
    own = "services.pay.environments.production.ecs"
    assert told[own].what.endswith(f"assumed-role/deploy/seamless in {ELSEWHERE}, account {OTHER}")
    assert told[f"{own}.cluster"].what == f"there is no active cluster pay in {ELSEWHERE}"
    assert str(told[f"{own}.cluster"].mend).startswith("seamless env up production --cluster pay")


def test_images_go_where_the_service_is_unless_aws_says_where(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    known = config(moto, tmp_path)
    registries = Registries(lambda: known, Ecr(clouds))
    hosts = {"web": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com", "pay": f"{OTHER}.dkr.ecr.{ELSEWHERE}.amazonaws.com"}

    async def prefix(of: Config, name: str) -> str:
        found = await registries.of_service(of.services[name])
        assert found is not None
        return found.prefix

    for name, host in hosts.items():
        assert asyncio.run(prefix(known, name)) == host
        moto.calls.clear()
        password = asyncio.run(registries.auth(Trust.TRUSTED, host))[host].password
        assert password == f"{host[:12]}-auth-token"
    one = known = config(moto, tmp_path, aws={"region": "eu-north-1", "endpoint_url": moto.url})
    assert {asyncio.run(prefix(one, name)) for name in hosts} == {f"{ACCOUNT}.dkr.ecr.eu-north-1.amazonaws.com"}


def test_a_cluster_of_its_own_is_made_in_its_account(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    world = World(moto, clouds, tmp_path)
    world.environment = PRODUCTION
    written = config(moto, tmp_path, aws={"region": "eu-north-1", "endpoint_url": moto.url})
    world.config = {
        "aws": written.aws.model_dump(exclude_none=True),
        "environments": {"production": {"target": "ecs", "cluster": "prod", "region": REGION}},
        "services": {name: dict(own) for name, own in written.written.items()},
    }
    plan = world.plan(cluster="pay")
    assert (plan["region"], [one["name"] for one in plan["facts"]["services"]]) == (ELSEWHERE, ["pay"])
    statements = json.loads(plan["template"])["Resources"]["PayExecutionRole"]["Properties"]["Policies"][0]
    pulled = [
        one["Resource"] for one in statements["PolicyDocument"]["Statement"] if "ecr:BatchGetImage" in one["Action"]
    ]
    assert pulled == [[f"arn:aws:ecr:eu-north-1:{ACCOUNT}:repository/pay"]]
    _, steps = world.up(cluster="pay")
    assert results(steps)["ok"]
    assert moto.called("AssumeRole")[-1]["RoleArn"] == ROLE
    assert [one["name"] for one in world.plan()["facts"]["services"]] == ["web"]
    refused = world.refusal(lambda: world.plan(services={"pay": {}}))
    assert refused.message == "pay is configured for another place in production: the cluster pay"
    assert "--cluster pay" in str(refused.hint)
