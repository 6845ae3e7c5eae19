"""The list of permissions is the one that the code uses, the guide shows and doctor looks at."""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from werkzeug.wrappers import Response

from harness.aws import Moto, Refusal
from seamless.aws.environment import render
from seamless.aws.examining import examine_aws
from seamless.aws.facts import Facts, ServiceFacts
from seamless.aws.permissions import PERMISSIONS, Purpose, policy
from seamless.aws.sessions import Clouds, permission_of
from seamless.config import Config, config_from
from seamless.findings import Finding

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs" / "aws.md"
_METHODS = ("call", "ask", "pages")
# AWS's own way through: the caller's identity needs no permission.
_FREE = {"sts:GetCallerIdentity"}
_SHOWN: dict[str, tuple[Purpose, ...]] = {
    "deploy": ("deploy", "images", "secrets", "notify"),
    "environments": ("environments",),
}


def calls() -> set[str]:
    """Every call of AWS in the program, as an IAM action. Its service and operation are always written out."""
    found, services = set(), set(boto3.Session().get_available_services())
    for room in ("aws", "agent", "targets"):
        for path in (ROOT / "src" / "seamless" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
                    words = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
                    if len(words) == 2 and words[0] in services:
                        found.add(permission_of(str(words[0]), str(words[1])))
    return found


def listed() -> set[str]:
    return {action for one in PERMISSIONS for action in one.actions}


def test_every_call_that_the_program_makes_is_listed() -> None:
    found = calls()
    assert {"ecs:UpdateService", "cloudformation:CreateStack", "sns:Publish", "ssm:GetParameters"} <= found
    assert found - listed() - _FREE == set()


def test_no_action_is_listed_twice_for_one_purpose_and_resource() -> None:
    seen = [(one.purpose, action, one.resources, one.passed_to) for one in PERMISSIONS for action in one.actions]
    assert len(seen) == len(set(seen))


# What CloudFormation itself calls to create, read, update and delete each type of our templates, with our credentials:
# the `handlers` of AWS's resource provider schemas (`aws cloudformation describe-type`), as of 2026. Without those that
# are for properties which we do not set: managed policies and boundaries, keys, capacity providers, account settings,
# data protection, index and resource policies, deliveries of logs.
HANDLERS = {
    "AWS::EC2::SecurityGroup": "ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:CreateTags "
    "ec2:CreateSecurityGroup ec2:DeleteSecurityGroup ec2:DeleteTags ec2:DescribeInstances ec2:DescribeSecurityGroups "
    "ec2:RevokeSecurityGroupEgress ec2:RevokeSecurityGroupIngress ec2:UpdateSecurityGroupRuleDescriptionsEgress "
    "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
    "AWS::ECS::Cluster": "ecs:CreateCluster ecs:DeleteCluster ecs:DescribeClusters ecs:ListTagsForResource "
    "ecs:TagResource ecs:UntagResource ecs:UpdateCluster iam:CreateServiceLinkedRole",
    "AWS::ECS::Service": "ecs:CreateService ecs:DeleteService ecs:DescribeServiceDeployments ecs:DescribeServices "
    "ecs:ListServiceDeployments ecs:ListTagsForResource ecs:StopServiceDeployment ecs:TagResource ecs:UntagResource "
    "ecs:UpdateService iam:PassRole",
    "AWS::ECS::TaskDefinition": "ecs:DeregisterTaskDefinition ecs:DescribeTaskDefinition ecs:ListTagsForResource "
    "ecs:RegisterTaskDefinition ecs:TagResource ecs:UntagResource iam:GetRole iam:PassRole",
    "AWS::IAM::Role": "iam:CreateRole iam:DeleteRole iam:DeleteRolePolicy iam:DetachRolePolicy iam:GetRole "
    "iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies iam:PutRolePolicy iam:TagRole iam:UntagRole "
    "iam:UpdateAssumeRolePolicy iam:UpdateRole iam:UpdateRoleDescription",
    "AWS::Logs::LogGroup": "logs:CreateLogGroup logs:DeleteLogGroup logs:DescribeIndexPolicies logs:DescribeLogGroups "
    "logs:DescribeResourcePolicies logs:GetDataProtectionPolicy logs:ListTagsForResource logs:PutRetentionPolicy "
    "logs:TagResource logs:UntagResource",
    # It has no handlers: the calls that make, tag, read and delete one, each with a permission of the same name
    # (docs.aws.amazon.com/cloud-map/latest/dg/cloud-map-api-permissions-ref.html). Which of them CloudFormation makes
    # is not published.
    "AWS::ServiceDiscovery::HttpNamespace": "servicediscovery:CreateHttpNamespace servicediscovery:DeleteNamespace "
    "servicediscovery:GetNamespace servicediscovery:GetOperation servicediscovery:TagResource",
}


def test_what_cloudformation_calls_with_our_credentials_is_listed() -> None:
    one = ServiceFacts("web", "web")
    facts = Facts("staging", "eu-central-1", "staging", "vpc-1", ("subnet-1",), (one,))
    assert {each["Type"] for each in render(facts)["Resources"].values()} == set(HANDLERS)
    granted = {action for each in PERMISSIONS if each.purpose == "environments" for action in each.actions}
    assert [call for calls in HANDLERS.values() for call in calls.split() if call not in granted] == []


@pytest.mark.parametrize("name", _SHOWN)
def test_the_guide_shows_the_policies(name: str) -> None:
    shown = GUIDE.read_text(encoding="utf-8").partition(f"<!-- policy: {name} -->\n```json\n")[2].partition("```")[0]
    wanted = json.dumps(policy(_SHOWN[name]), indent=2)
    assert shown.strip() == wanted, f"docs/aws.md, policy {name}, should be:\n{wanted}"


# -- doctor


def config(folder: Path, moto: Moto, **more: Any) -> Config:
    document = {
        "aws": {"region": "eu-central-1", "endpoint_url": moto.url},
        "environments": {"production": {"target": "ecs", "cluster": "prod"}},
        "services": {"payment": {"repo": "https://git.example/payment"}, "mail": {"repo": "https://git.example/mail"}},
        **more,
    }
    return config_from(document, folder / "seamless.toml")


class Iam:
    """IAM's simulation from a script: moto has none. All is allowed but `denied`."""

    def __init__(self, moto: Moto, *denied: str) -> None:
        self._denied = denied
        self.source = ""
        moto.instead(["SimulatePrincipalPolicy"], self._answer)

    def _answer(self, action: str, form: Any) -> Any:
        self.source = form["PolicySourceArn"]
        actions = [value for key, value in form.items() if key.startswith("ActionNames.")]
        resources = [value for key, value in form.items() if key.startswith("ResourceArns.")]
        members = "".join(
            f"<member><EvalActionName>{one}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>"
            f"<EvalDecision>{'implicitDeny' if one in self._denied else 'allowed'}</EvalDecision></member>"
            for one in actions
            for resource in resources
        )
        result = f"<EvaluationResults>{members}</EvaluationResults><IsTruncated>false</IsTruncated>"
        return Response(
            f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>", content_type="text/xml"
        )


def examined(config: Config, clouds: Clouds) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in asyncio.run(examine_aws(config, clouds)):
        found.setdefault(finding.subject, []).append(finding)
    return found


def deploy(moto: Moto, *services: str) -> None:
    ecs = moto.client("ecs")
    ecs.create_cluster(clusterName="prod")
    container = {"name": "app", "image": "x", "memory": 256}
    for name in services:
        ecs.register_task_definition(family=name, containerDefinitions=[container])
        ecs.create_service(cluster="prod", serviceName=name, taskDefinition=name, desiredCount=1)


def only(found: dict[str, list[Finding]], subject: str) -> Finding:
    (finding,) = found[subject]
    return finding


@pytest.mark.fake
def test_all_that_is_well_is_said(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    Iam(moto)
    deploy(moto, "payment", "mail")
    found = examined(config(tmp_path, moto), clouds)
    assert {finding.level for findings in found.values() for finding in findings} == {"ok"}
    assert " in eu-central-1, account 123456789012" in only(found, "environments.production").what
    assert only(found, "environments.production.cluster").what == "prod with 2 of 2 services"
    assert only(found, "environments.production.permissions").what.endswith("actions that deploy and images need")
    assert "dkr.ecr" in only(found, "environments.production.ecr").what


@pytest.mark.fake
def test_each_permission_that_is_missing_is_named_with_its_resource(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    Iam(moto, "ecs:UpdateService", "iam:PassRole", "cloudtrail:LookupEvents")
    deploy(moto, "payment", "mail")
    found = examined(config(tmp_path, moto), clouds)["environments.production.permissions"]
    assert [(one.level, one.what) for one in found] == [
        (
            "error",
            "ecs:UpdateService on arn:aws:ecs:eu-central-1:123456789012:service/prod/mail is not allowed",
        ),
        ("error", "iam:PassRole on arn:aws:iam::123456789012:role/seamless/mail is not allowed"),
        ("warning", "cloudtrail:LookupEvents is not allowed; something is told less well without it"),
    ]
    assert all(one.mend and one.mend.startswith("allow ") for one in found)


@pytest.mark.fake
def test_a_simulation_that_is_not_allowed_is_not_checked_and_never_ok(
    moto: Moto, clouds: Clouds, tmp_path: Path
) -> None:
    moto.refuse("SimulatePrincipalPolicy", Refusal("AccessDenied", "not authorized", 403))
    deploy(moto, "payment", "mail")
    finding = only(examined(config(tmp_path, moto), clouds), "environments.production.permissions")
    assert finding.level == "not_checked"
    assert "may not ask IAM (iam:SimulatePrincipalPolicy)" in finding.what


@pytest.mark.fake
def test_a_role_that_may_not_be_looked_at_is_asked_about_all_the_same(moto: Moto, tmp_path: Path) -> None:
    """Its session's ARN leaves out the path, which most roles do not have."""
    iam, clouds = Iam(moto), Clouds()
    moto.refuse("GetRole", Refusal("AccessDenied", "not authorized", 403))
    deploy(moto, "payment", "mail")
    role = "arn:aws:iam::123456789012:role/build-host"
    known = config(tmp_path, moto, aws={"region": "eu-central-1", "endpoint_url": moto.url, "assume_role": role})
    found = examined(known, clouds)
    clouds.close()
    assert (only(found, "environments.production.permissions").level, iam.source) == ("ok", role)


@pytest.mark.fake
def test_what_is_not_in_the_cluster_is_named(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    Iam(moto)
    missing = only(examined(config(tmp_path, moto), clouds), "environments.production.cluster")
    assert (missing.level, missing.what) == ("error", "there is no active cluster prod in eu-central-1")
    deploy(moto, "payment")
    found = examined(config(tmp_path, moto), clouds)
    assert only(found, "environments.production.cluster").what == "prod with 1 of 2 services"
    assert only(found, "services.mail").what == "the cluster prod has no service mail"


@pytest.mark.fake
def test_without_credentials_that_is_what_is_said(moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    clouds = Clouds()
    try:
        found = examined(config(tmp_path, moto), clouds)
    finally:
        clouds.close()
    finding = only(found, "environments.production")
    assert (finding.level, finding.what) == ("error", "AWS: no credentials were found")
    assert "environments.production.permissions" not in found


@pytest.mark.fake
def test_what_nothing_uses_is_not_checked(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    found = examined(config(tmp_path, moto, aws={}, environments={}), clouds)
    assert only(found, "aws").level == "not_checked"
    assert moto.calls == []


@pytest.mark.fake
def test_who_we_are_is_told_before_anything_uses_it(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    found = examined(config(tmp_path, moto, environments={}), clouds)
    assert (only(found, "aws").level, list(found)) == ("ok", ["aws"])


@pytest.mark.fake
def test_what_the_agent_itself_needs_is_looked_at_where_it_uses_it(moto: Moto, clouds: Clouds, tmp_path: Path) -> None:
    Iam(moto, "ssm:GetParameters")
    services = {"payment": {"repo": "https://git.example/payment", "secrets": {"TOKEN": {"ssm": "/seamless/token"}}}}
    found = examined(config(tmp_path, moto, environments={}, services=services), clouds)
    (finding,) = found["aws.permissions"]
    assert finding.what.startswith(
        "ssm:GetParameters on arn:aws:ssm:eu-central-1:123456789012:parameter/seamless/token"
    )


@pytest.mark.fake
@pytest.mark.parametrize(
    ("reference", "resource"),
    [
        ({"ssm": "plain:3"}, "ssm:eu-central-1:123456789012:parameter/plain"),
        ({"ssm": "arn:aws:ssm:eu-central-1:123456789012:parameter/a/b"}, "ssm:eu-central-1:123456789012:parameter/a/b"),
        (
            {"secretsmanager": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail-AbCdEf"},
            "secretsmanager:eu-central-1:123456789012:secret:mail-AbCdEf",
        ),
        ({"secretsmanager": "seamless/mail"}, "secretsmanager:eu-central-1:123456789012:secret:seamless/mail"),
    ],
)
def test_a_policy_that_names_its_secrets_is_enough(
    moto: Moto, clouds: Clouds, tmp_path: Path, reference: dict[str, str], resource: str
) -> None:
    """Only the kind of secret that is used is looked at, and by a name that is used."""
    Iam(moto, "ssm:GetParameters", "secretsmanager:GetSecretValue")
    services = {"payment": {"repo": "https://git.example/payment", "secrets": {"TOKEN": reference}}}
    found = examined(config(tmp_path, moto, environments={}, services=services), clouds)
    (finding,) = found["aws.permissions"]
    assert f" on arn:aws:{resource} is not allowed" in finding.what
