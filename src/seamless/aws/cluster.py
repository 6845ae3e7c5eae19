"""What runs in a cluster of ECS. Read only; all raise as `Account.call` does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from seamless.aws.errors import AwsError
from seamless.aws.sessions import Account
from seamless.wire_environments import EnvironmentServiceJSON

_DESCRIBED_MAX: Final = 10  # services of one DescribeServices


async def names_in(account: Account, cluster: str) -> list[str]:
    """The services of a cluster; none when it is not there."""
    try:
        arns = await account.pages("ecs", "list_services", "serviceArns", cluster=cluster)
    except AwsError as error:
        if error.aws_code == "ClusterNotFoundException":
            return []
        raise
    return sorted(str(arn).rpartition("/")[2] for arn in arns)


async def active_services(account: Account, cluster: str, names: Sequence[str]) -> AsyncIterator[Mapping[str, Any]]:
    """DescribeServices' answer for those of them that are there."""
    for start in range(0, len(names), _DESCRIBED_MAX):
        batch = list(names[start : start + _DESCRIBED_MAX])
        answer = await account.call("ecs", "describe_services", cluster=cluster, services=batch)
        for one in answer["services"]:
            if one["status"] == "ACTIVE":
                yield one


async def services_of(account: Account, cluster: str) -> list[EnvironmentServiceJSON]:
    """Every service of a cluster by name, for people."""
    names = await names_in(account, cluster)
    found = [_shown(one) async for one in active_services(account, cluster, names)]
    return sorted(found, key=lambda service: service["name"])


async def running_definition(account: Account, cluster: str, service: str) -> dict[str, Any] | None:
    """The task definition that a service runs; None when it is not there."""
    async for one in active_services(account, cluster, [service]):
        answer = await account.call("ecs", "describe_task_definition", taskDefinition=one["taskDefinition"])
        return dict(answer["taskDefinition"])
    return None


def _shown(service: Mapping[str, Any]) -> EnvironmentServiceJSON:
    rollouts = [each.get("rolloutState") for each in service["deployments"] if each["status"] == "PRIMARY"]
    return {
        "name": service["serviceName"],
        "desired": service["desiredCount"],
        "running": service["runningCount"],
        "pending": service["pendingCount"],
        "rollout": rollouts[0] if rollouts else None,
        "task_definition": service["taskDefinition"].rpartition("/")[2],
    }
