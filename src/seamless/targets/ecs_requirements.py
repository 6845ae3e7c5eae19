"""Whether what a task definition names is there: roles, secrets, subnets. Read only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from seamless.aws.errors import AwsDeniedError, AwsError
from seamless.aws.sessions import Account
from seamless.errors import StageError
from seamless.targets.ecs_service import Arn

_COLONS_IN_SECRET = 6  # arn:aws:secretsmanager:<region>:<account>:secret:<name>, then perhaps :<key>:<stage>:<version>


async def missing(
    account: Account, service: Mapping[str, Any], definition: Mapping[str, Any], *, one_off: bool
) -> list[str]:
    """Raises StageError for what is not there; answers what could not be looked at, a line each.

    `one_off`: a task shall be run by itself, which needs the service's network settings.
    """
    network = (service.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    if definition.get("networkMode") == "awsvpc" and one_off and not network.get("subnets"):
        raise StageError(
            f"the service {service['serviceName']} has no network settings, which its task before the deploy needs",
            hint="give the service an awsvpcConfiguration with subnets and security groups, or leave out before_deploy",
        )
    secrets = sorted(
        {str(each["valueFrom"]) for one in definition["containerDefinitions"] for each in one.get("secrets", [])}
    )
    if secrets and not definition.get("executionRoleArn"):
        raise StageError(
            "the task definition has secrets and no execution role, which is what reads them",
            hint="set executionRoleArn in the task definition; docs/aws.md has its policy",
        )
    remarks: list[str] = []
    checks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
    for key in ("executionRoleArn", "taskRoleArn"):
        if role := definition.get(key):
            checks.append((f"the role {_role_name(role)}", _role(account, role, key)))
    here = Arn.of(service["clusterArn"])
    for each in secrets:
        if each.startswith("arn:") and Arn.of(each) != here:
            remarks.append(f"not checked: the secret {each}, which is of another account or region")
        else:
            checks.append((f"the secret {each}", _secret(account, each)))
    if subnets := network.get("subnets"):
        checks.append(("the service's subnets", _subnets(account, subnets)))
    for what, check in checks:
        try:
            await check()
        except AwsDeniedError as error:
            remarks.append(f"not checked: {what}, for want of {error.permission}")
    return remarks


def _role(account: Account, arn: str, key: str) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        try:
            await account.call("iam", "get_role", RoleName=_role_name(arn))
        except AwsError as error:
            if error.aws_code == "NoSuchEntity":
                raise StageError(
                    f"the role {_role_name(arn)} of the task definition is not there",
                    hint=f"make it again, or name another in {key}",
                ) from error
            raise

    return check


def _secret(account: Account, value_from: str) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        found = True
        if ":secretsmanager:" in value_from:
            arn = ":".join(value_from.split(":")[: _COLONS_IN_SECRET + 1])
            try:
                await account.call("secretsmanager", "describe_secret", SecretId=arn)
            except AwsError as error:
                if error.aws_code != "ResourceNotFoundException":
                    raise
                found = False
        else:
            found = await _parameter_is_there(account, value_from)
        if not found:
            raise StageError(
                f"the secret {value_from} that the task definition names is not there",
                hint=f"{_making(value_from)}, or correct its name in the service's secrets",
            )

    return check


def _making(value_from: str) -> str:
    """The command that makes a secret."""
    if ":secretsmanager:" in value_from:
        name = value_from.split(":")[_COLONS_IN_SECRET]
        return f"aws secretsmanager create-secret --name {name} --secret-string …"
    name = _names_of_parameter(value_from)[0]
    return f"aws ssm put-parameter --type SecureString --name {name} --value …"


async def _parameter_is_there(account: Account, value_from: str) -> bool:
    filters = [{"Key": "Name", "Option": "Equals", "Values": _names_of_parameter(value_from)}]
    answer = await account.call("ssm", "describe_parameters", ParameterFilters=filters)
    return bool(answer["Parameters"])


def _names_of_parameter(value_from: str) -> list[str]:
    """Every name that it may have, a path first: an ARN drops the slash that a path begins with."""
    if not value_from.startswith("arn:"):
        return [value_from]
    name = value_from.partition(":parameter/")[2]
    return sorted({name, f"/{name}"}, key=lambda each: each.startswith("/") != ("/" in name))


def _subnets(account: Account, subnets: list[str]) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        try:
            await account.call("ec2", "describe_subnets", SubnetIds=subnets)
        except AwsError as error:
            if error.aws_code == "InvalidSubnetID.NotFound":
                raise StageError(
                    f"a subnet of the service is not there: {error.message}", hint="correct the service's network"
                ) from error
            raise

    return check


def _role_name(arn: str) -> str:
    return arn.rpartition("/")[2]
