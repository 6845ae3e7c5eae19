"""The ECS target against moto: task definitions, roles, secrets and subnets are moto's own.

moto knows no deployments of a service: what ECS would do after UpdateService is put into its state by the test.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from moto.ecs.models import ecs_backends

from harness.aws import ACCOUNT, REGION, Moto, Refusal
from seamless.aws.sessions import Clouds
from seamless.config import Aws
from seamless.errors import StageError
from seamless.model import DigestKind, Environment, ImageRef
from seamless.targets import DeployRequest
from seamless.targets.ecs import EcsTarget
from seamless.targets.ecs_requirements import missing
from seamless.targets.ecs_spec import Timing
from seamless.transitions import DeploymentEvent
from targets.deploying import Lines, MemoryJournal
from targets.ecs_playing import DEFINITION, REPOSITORY

pytestmark = pytest.mark.fake

IMAGE = ImageRef(f"sha256:{'7' * 64}", DigestKind.MANIFEST, REPOSITORY)
NOT_IN_MOTO = Refusal("UnsupportedFeatureException")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/seamless/web-execution"
CLUSTER_ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/prod"


class Quick(Timing):
    poll_s = 0.01
    visible_s = 0.05


def make_service(moto: Moto) -> None:
    ecs = moto.client("ecs")
    moto.client("iam").create_role(RoleName="web-execution", Path="/seamless/", AssumeRolePolicyDocument="{}")
    ecs.create_cluster(clusterName="prod")
    ecs.register_task_definition(**copy.deepcopy(DEFINITION), tags=[{"key": "team", "value": "shop"}])
    ecs.create_service(cluster="prod", serviceName="web", taskDefinition="web:1", desiredCount=2)


def driven(*states: str) -> Callable[[], None]:
    """What ECS does with a service whose task definition was changed: the rollout states of its new deployments."""
    coming = iter(states)

    def drive() -> None:
        service: Any = next(iter(ecs_backends[ACCOUNT][REGION].services.values()))
        newest = service.deployments[0]
        if newest["taskDefinition"] == service.task_definition:
            newest.setdefault("rolloutState", "COMPLETED")
            newest["runningCount"] = newest["desiredCount"]
            return
        newest["status"] = "ACTIVE"
        moved = {"id": f"ecs-svc/{len(service.deployments)}", "status": "PRIMARY", "rolloutState": next(coming)}
        service.deployments.insert(0, {**newest, **moved, "taskDefinition": service.task_definition})

    return drive


def deploy(moto: Moto, clouds: Clouds, access: Aws, **changes: Any) -> tuple[Any, list[str]]:
    async def platforms(_: ImageRef) -> Sequence[str]:
        return ["linux/amd64"]

    ecs = {"service": None, "container": "app", "before_deploy": None, "before_deploy_timeout": None}
    settings = {
        "target": "ecs",
        "cluster": "prod",
        **access.model_dump(),
        "ecs": ecs,
        "task_env": {},
        "task_secrets": {},
    }
    request = DeployRequest(
        deployment=1,
        run="web-1",
        service="web",
        environment=Environment.PRODUCTION,
        commit="1" * 40,
        image=IMAGE,
        settings={**settings, **changes},
        port=None,
        publish=None,
        health="",
        deadline_s=5.0,
    )
    lines = Lines()
    target = EcsTarget("0badcafe", clouds.account, platforms, Quick())
    return asyncio.run(target.deploy(request, MemoryJournal(), lines)), lines.lines


def test_a_definition_makes_its_way_through_ecs(moto: Moto, clouds: Clouds, access: Aws) -> None:
    make_service(moto)
    moto.before("DescribeServices", driven("COMPLETED"))
    moto.refuse("ListServiceDeployments", *[NOT_IN_MOTO] * 10)
    outcome, lines = deploy(moto, clouds, access, task_env={"LOG_LEVEL": "info"})
    assert outcome.event is DeploymentEvent.COMPLETE, (outcome.reason, lines)
    registered = moto.client("ecs").describe_task_definition(taskDefinition="web:2", include=["TAGS"])
    app, proxy = registered["taskDefinition"]["containerDefinitions"]
    assert (app["image"], proxy["image"]) == (IMAGE.pullable, "envoy:1.30")
    tags = {tag["key"]: tag["value"] for tag in registered["tags"]}
    assert {"team": "shop", "seamless:run": "web-1"}.items() <= tags.items()
    (update,) = moto.called("UpdateService")
    assert set(update) == {"cluster", "service", "taskDefinition"}


def test_a_deployment_that_ecs_gives_up_goes_back(moto: Moto, clouds: Clouds, access: Aws) -> None:
    make_service(moto)
    moto.before("DescribeServices", driven("FAILED", "COMPLETED"))
    moto.refuse("ListServiceDeployments", *[NOT_IN_MOTO] * 10)
    outcome, lines = deploy(moto, clouds, access)
    assert outcome.event is DeploymentEvent.ROLL_BACK, (outcome.reason, lines)
    assert outcome.reason == "ECS gave the deployment up; rolled back to web:1"
    assert [each["taskDefinition"][-5:] for each in moto.called("UpdateService")] == ["web:2", "web:1"]


def check(clouds: Clouds, access: Aws, definition: dict[str, Any], **network: Any) -> list[str]:
    service = {"serviceName": "web", "clusterArn": CLUSTER_ARN}
    if network:
        service["networkConfiguration"] = {"awsvpcConfiguration": network}  # type: ignore[assignment]
    full = {"networkMode": "awsvpc", "containerDefinitions": [{"name": "app"}], **definition}
    return asyncio.run(missing(clouds.account(access), service, full, one_off=False))


def secrets(*places: str) -> dict[str, Any]:
    named = [{"name": f"S{number}", "valueFrom": place} for number, place in enumerate(places)]
    return {"executionRoleArn": ROLE, "containerDefinitions": [{"name": "app", "secrets": named}]}


def test_what_a_task_definition_names_must_be_there(moto: Moto, clouds: Clouds, access: Aws) -> None:
    with pytest.raises(StageError, match="the role web-execution of the task definition is not there"):
        check(clouds, access, {"executionRoleArn": ROLE})
    moto.client("iam").create_role(RoleName="web-execution", AssumeRolePolicyDocument="{}")
    assert check(clouds, access, {"executionRoleArn": ROLE}) == []
    with pytest.raises(StageError, match="a subnet of the service is not there"):
        check(clouds, access, {}, subnets=["subnet-0123456789abcdef0"])
    subnet = moto.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    assert check(clouds, access, {}, subnets=[subnet]) == []


def test_secrets_must_be_there_under_every_way_to_name_them(moto: Moto, clouds: Clouds, access: Aws) -> None:
    moto.client("iam").create_role(RoleName="web-execution", AssumeRolePolicyDocument="{}")
    ssm = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
    manager = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
    for place in (f"{ssm}/web/db", "/web/db", "plain", f"{manager}:web/mail", f"{manager}:web/mail:password::"):
        with pytest.raises(StageError, match=r"the secret .* that the task definition names is not there") as caught:
            check(clouds, access, secrets(place))
        assert {"/web/db": "--name /web/db ", "plain": "--name plain "}.get(place, "--name ") in str(caught.value.hint)
    for name in ("/web/db", "plain"):
        moto.client("ssm").put_parameter(Name=name, Value="secret", Type="SecureString")
    made = moto.client("secretsmanager").create_secret(Name="web/mail", SecretString="secret")
    there = [f"{ssm}/web/db", "/web/db", "plain", f"{ssm}/plain", made["ARN"], f"{made['ARN']}:password::"]
    assert check(clouds, access, secrets(*there)) == []
    elsewhere = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/web/db"
    assert check(clouds, access, secrets(elsewhere)) == [
        f"not checked: the secret {elsewhere}, which is of another account or region"
    ]


def test_what_may_not_be_looked_at_is_said(moto: Moto, clouds: Clouds, access: Aws) -> None:
    moto.refuse("GetRole", Refusal("AccessDenied", status=403))
    assert check(clouds, access, {"executionRoleArn": ROLE}) == [
        "not checked: the role web-execution, for want of iam:GetRole"
    ]
