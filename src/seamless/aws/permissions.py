"""What the agent's credentials must be allowed, by what it is for. docs/aws.md, `seamless doctor` and the build host's
role (`build_host.py`) are made of this.

A test holds the list against every call of AWS's API in the program. Actions that only CloudFormation, Docker or ECS
make on our behalf stand here too. Resources: docs.aws.amazon.com/service-authorization.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Purpose = Literal["deploy", "images", "secrets", "notify", "environments", "host"]


@dataclass(frozen=True, slots=True)
class Permission:
    """Actions that one statement allows, on resources of the account and region. `{place}` is replaced."""

    purpose: Purpose
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    optional: bool = False  # without it something is only told less well
    passed_to: str | None = None  # for iam:PassRole: the service that may be given the role


@dataclass(frozen=True, slots=True)
class Scope:
    """What the resources of a permission are narrowed to; `*` for any, None for a kind that is not used at all."""

    partition: str = "aws"
    region: str = "*"
    account: str = "*"
    cluster: str = "*"
    parameter: str | None = "*"  # names of SSM parameters, without the first slash
    secret: str | None = "*"  # names in Secrets Manager


ANYWHERE: Final = Scope()

_ECS: Final = "arn:{partition}:ecs:{region}:{account}"
_IAM: Final = "arn:{partition}:iam::{account}"
_ROLES: Final = (f"{_IAM}:role/seamless/*",)

PERMISSIONS: Final[Sequence[Permission]] = (
    # -- a deployment
    Permission(
        "deploy",
        (
            "ecs:DescribeTaskDefinition",
            "ecs:ListServices",
            "ecs:ListTasks",
            "ec2:DescribeSubnets",
            "ssm:DescribeParameters",
        ),
    ),
    Permission("deploy", ("ecs:RegisterTaskDefinition", "ecs:TagResource"), (f"{_ECS}:task-definition/*",)),
    Permission("deploy", ("ecs:DescribeClusters",), (f"{_ECS}:cluster/{{cluster}}",)),
    Permission(
        "deploy",
        ("ecs:DescribeServices", "ecs:UpdateService", "ecs:ListServiceDeployments"),
        (f"{_ECS}:service/{{cluster}}/*",),
    ),
    Permission(
        "deploy",
        ("ecs:DescribeServiceDeployments", "ecs:StopServiceDeployment"),
        (f"{_ECS}:service-deployment/{{cluster}}/*",),
    ),
    Permission("deploy", ("ecs:DescribeServiceRevisions",), (f"{_ECS}:service-revision/{{cluster}}/*",)),
    Permission("deploy", ("ecs:RunTask",), (f"{_ECS}:task-definition/*",)),
    Permission("deploy", ("ecs:DescribeTasks", "ecs:StopTask"), (f"{_ECS}:task/{{cluster}}/*",)),
    Permission("deploy", ("iam:GetRole",), _ROLES),
    Permission("deploy", ("iam:PassRole",), _ROLES, passed_to="ecs-tasks.amazonaws.com"),
    Permission("deploy", ("logs:GetLogEvents",), ("arn:{partition}:logs:{region}:{account}:log-group:/seamless/*",)),
    Permission(
        "deploy", ("secretsmanager:DescribeSecret",), ("arn:{partition}:secretsmanager:{region}:{account}:secret:*",)
    ),
    Permission("deploy", ("cloudtrail:LookupEvents", "iam:SimulatePrincipalPolicy"), optional=True),
    # -- images in ECR
    Permission("images", ("ecr:GetAuthorizationToken",)),
    Permission(
        "images",
        (
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchDeleteImage",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:CreateRepository",
            "ecr:DescribeImages",
            "ecr:DescribeRepositories",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:PutLifecyclePolicy",
            "ecr:UploadLayerPart",
        ),
        ("arn:{partition}:ecr:{region}:{account}:repository/*",),
    ),
    # -- secrets of stages
    Permission("secrets", ("ssm:GetParameters",), ("arn:{partition}:ssm:{region}:{account}:parameter/{parameter}",)),
    Permission(
        "secrets",
        ("secretsmanager:GetSecretValue",),
        ("arn:{partition}:secretsmanager:{region}:{account}:secret:{secret}",),
    ),
    Permission("secrets", ("secretsmanager:BatchGetSecretValue",), optional=True),
    # -- notifications
    Permission("notify", ("sns:Publish",), ("arn:{partition}:sns:{region}:{account}:*",)),
    # -- seamless env up, show and down
    Permission(
        "environments",
        (
            "cloudformation:CreateStack",
            "cloudformation:DeleteStack",
            "cloudformation:DescribeStackEvents",
            "cloudformation:DescribeStacks",
            "cloudformation:GetTemplate",
            "cloudformation:TagResource",
            "cloudformation:UpdateStack",
        ),
        ("arn:{partition}:cloudformation:{region}:{account}:stack/seamless-*/*",),
    ),
    Permission(
        "environments",
        (
            "ec2:DescribeInstances",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcs",
            "ecs:DeregisterTaskDefinition",
            "ecs:DescribeTaskDefinition",
            "ecs:ListServices",
            "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeTargetGroups",
            "logs:DescribeIndexPolicies",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "servicediscovery:CreateHttpNamespace",
            "servicediscovery:GetNamespace",
            "servicediscovery:GetOperation",
            "servicediscovery:ListNamespaces",
            "servicediscovery:ListTagsForResource",
            "servicediscovery:TagResource",
        ),
    ),
    Permission(
        "environments",
        ("servicediscovery:DeleteNamespace",),
        ("arn:{partition}:servicediscovery:{region}:{account}:namespace/*",),
    ),
    Permission(
        "environments",
        (
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:CreateSecurityGroup",
            "ec2:CreateTags",
            "ec2:DeleteSecurityGroup",
            "ec2:DeleteTags",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
            "ec2:UpdateSecurityGroupRuleDescriptionsEgress",
            "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
        ),
        ("arn:{partition}:ec2:{region}:{account}:security-group/*", "arn:{partition}:ec2:{region}:{account}:vpc/*"),
    ),
    Permission(
        "environments",
        (
            "ecs:CreateCluster",
            "ecs:DeleteCluster",
            "ecs:DescribeClusters",
            "ecs:UpdateCluster",
        ),
        (f"{_ECS}:cluster/{{cluster}}",),
    ),
    Permission(
        "environments",
        (
            "ecs:CreateService",
            "ecs:DeleteService",
            "ecs:DescribeServices",
            "ecs:ListServiceDeployments",
            "ecs:UpdateService",
        ),
        (f"{_ECS}:service/{{cluster}}/*",),
    ),
    Permission(
        "environments",
        ("ecs:DescribeServiceDeployments", "ecs:StopServiceDeployment"),
        (f"{_ECS}:service-deployment/{{cluster}}/*",),
    ),
    Permission("environments", ("ecs:RegisterTaskDefinition",), (f"{_ECS}:task-definition/{{cluster}}-*",)),
    Permission(
        "environments",
        ("ecs:ListTagsForResource", "ecs:TagResource", "ecs:UntagResource"),
        (f"{_ECS}:cluster/{{cluster}}", f"{_ECS}:service/{{cluster}}/*", f"{_ECS}:task-definition/{{cluster}}-*"),
    ),
    Permission(
        "environments",
        (
            "iam:CreateRole",
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:PutRolePolicy",
            "iam:TagRole",
            "iam:UntagRole",
            "iam:UpdateAssumeRolePolicy",
            "iam:UpdateRole",
            "iam:UpdateRoleDescription",
        ),
        _ROLES,
    ),
    Permission("environments", ("iam:PassRole",), _ROLES, passed_to="ecs-tasks.amazonaws.com"),
    Permission(
        "environments",
        ("iam:CreateServiceLinkedRole",),
        (f"{_IAM}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",),
    ),
    Permission(
        "environments",
        (
            "logs:CreateLogGroup",
            "logs:DeleteLogGroup",
            "logs:GetDataProtectionPolicy",
            "logs:ListTagsForResource",
            "logs:PutRetentionPolicy",
            "logs:TagResource",
            "logs:UntagResource",
        ),
        ("arn:{partition}:logs:{region}:{account}:log-group:/seamless/*",),
    ),
    Permission("environments", ("s3:GetObject", "s3:PutObject"), ("arn:{partition}:s3:::*/seamless/*",), optional=True),
    # -- a build host of our template. Session Manager is the way into it without ssh: AWS's own policy for that,
    # AmazonSSMManagedInstanceCore, would also let it read every parameter of the account.
    Permission(
        "host",
        (
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
        ),
    ),
    Permission("host", ("iam:GetRole",), (f"{_IAM}:role/seamless-host/*",)),  # itself: doctor asks what it may do
)


def policy(purposes: Iterable[Purpose], scope: Scope = ANYWHERE) -> dict[str, Any]:
    """An IAM policy for these purposes."""
    wanted = set(purposes)
    return {
        "Version": "2012-10-17",
        "Statement": [_statement(one, scope) for one in PERMISSIONS if one.purpose in wanted],
    }


def resources_of(one: Permission, scope: Scope) -> list[str]:
    """Its resources in that scope; none when they are of a kind that is not used."""
    places = asdict(scope)
    unused = [f"{{{place}}}" for place, value in places.items() if value is None]
    return [each.format_map(places) for each in one.resources if not any(place in each for place in unused)]


def _statement(one: Permission, scope: Scope) -> dict[str, Any]:
    resources = resources_of(one, scope)
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Action": list(one.actions),
        "Resource": resources if len(resources) > 1 else resources[0],
    }
    if one.passed_to is not None:
        statement["Condition"] = {"StringEquals": {"iam:PassedToService": one.passed_to}}
    return statement
