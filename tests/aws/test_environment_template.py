"""Environments as CloudFormation templates: what AWS's own schemas say of them, and what a change leaves alone."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from cfnlint.api import lint as cfn_lint
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless.aws.environment import (
    ROLE_PATH,
    difference,
    facts_of,
    logical_id,
    render,
    rendered_body,
    renew,
    touched,
)
from seamless.aws.facts import Facts, ServiceFacts
from seamless.aws.fargate import MEMORY_BY_CPU
from seamless.errors import UsageError
from seamless.model import SERVICE_NAME

TARGET_GROUP = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/payment/6d0ecf831eec9f09"
PAYMENT = ServiceFacts(
    "payment",
    "app",
    3000,
    health="/healthz",
    target_group=TARGET_GROUP,
    reached_from=("sg-0123456789abcdef0",),
    repository="acme/payment",
    parameters=("/payment/db", "arn:aws:ssm:eu-central-1:123456789012:parameter/shared"),
    secrets=("stripe", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail-AbCdEf"),
)
WORKER = ServiceFacts("worker-1", "worker-1", cpu=1024, memory=3072, count=2)
FACTS = Facts(
    "staging",
    "eu-central-1",
    "shop-staging",
    "vpc-0123456789abcdef0",
    ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"),
    (PAYMENT, WORKER),
    keys=("arn:aws:kms:eu-central-1:123456789012:key/0aa0aa00-aaaa-4aaa-8aaa-0123456789ab",),
)


def with_service(service: ServiceFacts, **changes: Any) -> Facts:
    """FACTS with another one in the place of the service of that name."""
    services = tuple(service if one.name == service.name else one for one in FACTS.services)
    return dataclasses.replace(FACTS, services=services, **changes)


def lint(template: dict[str, Any]) -> list[str]:
    """Errors and warnings of cfn-lint, which carries AWS's own schemas."""
    return [str(found) for found in cfn_lint(json.dumps(template), regions=[FACTS.region])]


def properties(template: dict[str, Any], service: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][logical_id(service, kind)]["Properties"]
    return found


def test_the_template_is_what_aws_accepts() -> None:
    assert lint(render(FACTS)) == []
    private = with_service(
        dataclasses.replace(PAYMENT, target_group=None, reached_from=(), port=None, parameters=(), secrets=()),
        public_address=False,
        architecture="ARM64",
        keys=(),
    )
    assert lint(render(private)) == []


def test_the_linter_would_find_a_fault() -> None:
    wrong = render(FACTS)
    properties(wrong, "payment", "TaskDefinition")["Memory"] = "777"
    assert len(lint(wrong)) == 1


def test_a_public_service_stands_behind_its_target_group_and_a_worker_behind_nothing() -> None:
    template = render(FACTS)
    public = properties(template, "payment", "Service")
    assert public["LoadBalancers"] == [{"ContainerName": "app", "ContainerPort": 3000, "TargetGroupArn": TARGET_GROUP}]
    assert public["ServiceConnectConfiguration"]["Services"][0]["ClientAliases"] == [
        {"Port": 3000, "DnsName": "payment"}
    ]
    ingress = properties(template, "payment", "Group")["SecurityGroupIngress"]
    assert [rule["SourceSecurityGroupId"] for rule in ingress] == [
        {"Fn::GetAtt": ["EnvironmentMembers", "GroupId"]},
        "sg-0123456789abcdef0",
    ]
    assert {(rule["FromPort"], rule["ToPort"]) for rule in ingress} == {(3000, 3000)}
    worker = properties(template, "worker-1", "Service")
    assert "LoadBalancers" not in worker
    assert "Services" not in worker["ServiceConnectConfiguration"]
    assert properties(template, "worker-1", "Group")["SecurityGroupIngress"] == []


def test_no_port_of_any_group_is_open_to_addresses() -> None:
    groups = [one for one in render(FACTS)["Resources"].values() if one["Type"] == "AWS::EC2::SecurityGroup"]
    assert len(groups) == 3
    rules = [rule for group in groups for rule in group["Properties"]["SecurityGroupIngress"]]
    assert not any(key.startswith("Cidr") for rule in rules for key in rule)


def test_a_role_may_do_only_what_its_service_needs() -> None:
    template = render(FACTS)
    assert "Policies" not in properties(template, "payment", "TaskRole")
    (policy,) = properties(template, "payment", "ExecutionRole")["Policies"]
    allowed = {
        action: statement["Resource"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in statement["Action"]
    }

    def ours(service: str, rest: str) -> dict[str, str]:
        return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{rest}"}

    assert allowed["ecr:BatchGetImage"] == [ours("ecr", "repository/acme/payment")]
    assert allowed["ssm:GetParameters"] == [ours("ssm", "parameter/payment/db"), PAYMENT.parameters[1]]
    assert allowed["secretsmanager:GetSecretValue"] == [
        ours("secretsmanager", "secret:stripe-??????"),
        PAYMENT.secrets[1],
        f"{PAYMENT.secrets[1]}-??????",
    ]
    assert allowed["kms:Decrypt"] == list(FACTS.keys)
    assert [action for action, resource in allowed.items() if resource == "*"] == ["ecr:GetAuthorizationToken"]
    (policy,) = properties(template, "worker-1", "ExecutionRole")["Policies"]
    assert [one["Action"] for one in policy["PolicyDocument"]["Statement"]] == [
        ["logs:CreateLogStream", "logs:PutLogEvents"]
    ]
    roles = [one["Properties"] for one in template["Resources"].values() if one["Type"] == "AWS::IAM::Role"]
    assert {role["Path"] for role in roles} == {ROLE_PATH}


# -- changing what is there

RUNNING = {
    "volumes": [{"name": "scratch", "host": {}}],
    "containerDefinitions": [
        {
            "name": "app",
            "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/acme/payment@sha256:" + "1" * 64,
            "cpu": 0,
            "essential": True,
            "portMappings": [{"containerPort": 3000, "hostPort": 3000, "protocol": "tcp", "name": "http"}],
            "environment": [{"name": "LOG_LEVEL", "value": "info"}],
            "secrets": [{"name": "DB_URL", "valueFrom": "/payment/db"}],
            "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/scratch"}],
            "volumesFrom": [],
            "dockerLabels": {"com.acme.team": "payments"},
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/x", "awslogs-region": "y"}},
        },
        {"name": "envoy", "image": "envoy:1", "cpu": 0, "essential": False, "environment": [], "systemControls": []},
    ],
}


def test_a_change_keeps_what_a_deployment_put_there() -> None:
    old = render(FACTS)
    facts = with_service(dataclasses.replace(PAYMENT, cpu=512, memory=2048, port=8080))
    assert touched(old, facts) == ("payment",)
    template = renew(old, facts, {"payment": RUNNING})
    assert lint(template) == []
    definition = properties(template, "payment", "TaskDefinition")
    assert (definition["Cpu"], definition["Memory"]) == ("512", "2048")
    app, sidecar = definition["ContainerDefinitions"]
    assert app["Image"].endswith("1" * 64)
    assert app["Environment"] == [{"Name": "LOG_LEVEL", "Value": "info"}]
    assert app["Secrets"] == [{"Name": "DB_URL", "ValueFrom": "/payment/db"}]
    assert app["DockerLabels"] == {"com.acme.team": "payments"}
    assert app["LogConfiguration"]["Options"] == {"awslogs-group": "/x", "awslogs-region": "y"}
    assert [mapping["ContainerPort"] for mapping in app["PortMappings"]] == [8080]
    assert "Command" not in app
    assert (sidecar["Name"], sidecar["Image"]) == ("envoy", "envoy:1")
    assert definition["Volumes"] == [{"Name": "scratch"}]
    assert template["Resources"]["WorkerDash1TaskDefinition"] == old["Resources"]["WorkerDash1TaskDefinition"]


def test_a_change_of_the_number_of_tasks_does_not_bring_an_old_definition_back() -> None:
    """CloudFormation would send the stack's own one along with the number."""
    old = render(FACTS)
    facts = with_service(dataclasses.replace(PAYMENT, count=3))
    template = renew(old, facts, {"payment": RUNNING})
    assert properties(template, "payment", "TaskDefinition")["ContainerDefinitions"][0]["Image"].endswith("1" * 64)


def test_a_service_that_still_waits_for_its_first_deployment_gets_a_placeholder_that_fits() -> None:
    old = render(FACTS)
    waiting = {"containerDefinitions": [{"name": "app", "dockerLabels": {"io.seamless.placeholder": "true"}}]}
    facts = with_service(dataclasses.replace(PAYMENT, port=8080))
    template = renew(old, facts, {"payment": waiting})
    (container,) = properties(template, "payment", "TaskDefinition")["ContainerDefinitions"]
    assert "-p 8080" in container["Command"][-1]


def test_what_a_change_does_not_concern_is_not_deployed_anew() -> None:
    """Also when this version of Seamless would render it in another way: the stack keeps what it has."""
    old = render(FACTS)
    old["Resources"]["PaymentTaskDefinition"]["Properties"]["ContainerDefinitions"][0]["Image"] = (
        "of-an-earlier-version"
    )
    allowed = with_service(dataclasses.replace(PAYMENT, secrets=(*PAYMENT.secrets, "another")))
    added = dataclasses.replace(allowed, services=(*allowed.services, ServiceFacts("mail", "mail", 25)))
    assert touched(old, added) == ()
    template = renew(old, added, {})
    assert properties(template, "payment", "TaskDefinition") == properties(old, "payment", "TaskDefinition")
    assert difference(old, template) == [
        ("change", "AWS::IAM::Role", "PaymentExecutionRole"),
        ("add", "AWS::Logs::LogGroup", "MailLogGroup"),
        ("add", "AWS::IAM::Role", "MailExecutionRole"),
        ("add", "AWS::IAM::Role", "MailTaskRole"),
        ("add", "AWS::EC2::SecurityGroup", "MailGroup"),
        ("add", "AWS::ECS::TaskDefinition", "MailTaskDefinition"),
        ("add", "AWS::ECS::Service", "MailService"),
    ]


def test_a_service_that_is_left_out_is_removed_with_all_that_it_has() -> None:
    old = render(FACTS)
    template = renew(old, dataclasses.replace(FACTS, services=(PAYMENT,)), {})
    removed = difference(old, template)
    assert [kind for kind, _, _ in removed] == ["remove"] * 6
    assert all(name.startswith("WorkerDash1") for _, _, name in removed)


def test_nothing_changed_is_no_difference() -> None:
    assert difference(render(FACTS), renew(render(FACTS), FACTS, {})) == []


# -- facts

names = st.from_regex(SERVICE_NAME, fullmatch=True)
sizes = st.sampled_from([(cpu, memory) for cpu, memories in MEMORY_BY_CPU.items() for memory in memories])


@st.composite
def some_facts(draw: st.DrawFn) -> Facts:
    services = []
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        cpu, memory = draw(sizes)
        port = draw(st.none() | st.integers(1, 65535))
        services.append(ServiceFacts(name, name, port, cpu, memory, draw(st.integers(0, 9)), repository=name))
    return dataclasses.replace(FACTS, services=tuple(services), public_address=draw(st.booleans()))


@given(some_facts())
def test_facts_come_back_from_a_template_that_went_over_the_wire(facts: Facts) -> None:
    facts.check()
    assert facts_of(json.loads(rendered_body(render(facts)))) == facts


@given(names, names)
def test_no_two_services_share_a_resource(one: str, other: str) -> None:
    kinds = ["Service", "Group", "TaskRole", "TaskDefinition", "LogGroup", "ExecutionRole"]
    ours, theirs = ({logical_id(name, kind) for kind in kinds} for name in (one, other))
    assert (ours == theirs) == (one == other)
    assert not ours & theirs or one == other
    assert all(name.isalnum() for name in ours)
    assert not ours & {"Namespace", "Cluster", "EnvironmentMembers"}


@given(some_facts())
@settings(max_examples=4)
def test_any_facts_make_a_template_that_aws_accepts(facts: Facts) -> None:
    assert lint(render(facts)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"region": "frankfurt"}, "region: 'frankfurt' is not a region such as eu-central-1"),
        ({"cluster": "a b"}, "cluster: 'a b' must be 1 to 100 letters, digits and hyphens"),
        ({"subnets": ()}, "subnets: none are named"),
        ({"services": ()}, "services: an environment needs at least one"),
        ({"services": (PAYMENT, PAYMENT)}, "services: payment is named twice"),
        ({"log_days": 31}, "log_days: CloudWatch keeps logs for 1, 3, 5"),
        ({"keys": ("mine",)}, "keys: 'mine' is not the ARN of a KMS key"),
        ({"services": tuple(ServiceFacts(f"s{n}", "c") for n in range(51))}, "51 are more than the 50"),
    ],
)
def test_facts_that_cannot_be_are_refused_before_anything_is_asked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        dataclasses.replace(FACTS, **change).check()
    assert said in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"cpu": 256, "memory": 4096},
            "payment: 256 CPU units go with 512, 1024 or 2048 MiB of memory, not 4096; 4096 MiB go with cpu 512, 1024 "
            "or 2048",
        ),
        ({"cpu": 300}, "payment: Fargate has no tasks of 300 CPU units; there are 256, 512, 1024, 2048,"),
        ({"cpu": 8192, "memory": 17000}, "8192 CPU units go with 16384 to 61440 (in steps of 4096) MiB of memory"),
        ({"port": 0}, "payment: port: 0 is not a port"),
        ({"port": None}, "payment: target_group: a public service needs port"),
        ({"count": -1}, "payment: count: must be between 0 and 5000, not -1"),
        ({"container": "a/b"}, "payment: container: 'a/b' is not a container's name"),
        ({"target_group": "payment"}, "payment: target_group: 'payment' is not the ARN of a load balancer's target"),
    ],
)
def test_services_that_cannot_be_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        with_service(dataclasses.replace(PAYMENT, **change)).check()
    assert said in refused.value.message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        with_service(dataclasses.replace(PAYMENT, port=0, count=-1), region="x").check()
    assert len(refused.value.message.splitlines()) == 3


def test_a_stack_of_somebody_else_holds_no_facts() -> None:
    with pytest.raises(UsageError, match="does not hold the facts"):
        facts_of({"Resources": {}})
