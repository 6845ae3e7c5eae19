"""The few things that the ECS target asks of AWS, for one service in one cluster.

Reads may be repeated at will. Each call that changes something says how often it has its effect, and how one finds out
whether it had. All raise as `aws.sessions.Account.call` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from seamless.aws.errors import AwsError
from seamless.aws.sessions import Account
from seamless.errors import SeamlessError, StageError
from seamless.targets.ecs_plan import short_name, tags_of

Json = Mapping[str, Any]

_BUSY_FAMILY: Final = "Too many concurrent attempts"  # to register a revision; ECS's own words
_BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)
_TASKS_SHOWN: Final = 5
_TASKS_MAX: Final = 100  # of one DescribeTasks
_DESCRIBED_MAX: Final = 20  # of one DescribeServiceRevisions


@dataclass(frozen=True, slots=True)
class Arn:
    """Where an ARN says that something is: arn:<partition>:ecs:<region>:<account>:…"""

    partition: str
    region: str
    account: str

    @classmethod
    def of(cls, arn: str) -> Arn:
        _, partition, _, region, account, *_ = arn.split(":")
        return cls(partition, region, account)


class EcsService:
    """One service. Stateless: every method asks ECS anew."""

    def __init__(self, account: Account, cluster: str, name: str) -> None:
        self.account = account
        self.cluster = cluster
        self.name = name

    async def describe(self) -> dict[str, Any]:
        """DescribeServices' answer for it. Raises StageError when cluster or service are not there."""
        try:
            answer = await self.account.call("ecs", "describe_services", cluster=self.cluster, services=[self.name])
        except AwsError as error:
            raise await cluster_error(self.account, self.cluster, error) from error
        found = [each for each in answer["services"] if each["status"] == "ACTIVE"]
        if not found:
            raise StageError(
                f"there is no ECS service {self.name} in the cluster {self.cluster} in {await self.account.region()}",
                hint=await self._others(),
            )
        return dict(found[0])

    async def _others(self) -> str:
        arns = (await self.account.call("ecs", "list_services", cluster=self.cluster, maxResults=20))["serviceArns"]
        names = ", ".join(sorted(short_name(arn) for arn in arns)) or "none"
        return f"the cluster's services: {names}; services.NAME.ecs.service says which one it is"

    async def definition(self, name: str) -> tuple[dict[str, Any], dict[str, str]]:
        """A task definition by ARN or "family:revision", or a family's newest; and its tags."""
        answer = await self.account.call("ecs", "describe_task_definition", taskDefinition=name, include=["TAGS"])
        return answer["taskDefinition"], tags_of(answer.get("tags", []))

    async def register(self, parameters: Json, tags: Sequence[Mapping[str, str]]) -> str:
        """Registers a revision; its ARN. At most one for each call; `newest_tagged` finds one whose answer was lost."""
        for pause_s in (*_BUSY_PAUSES_S, None):
            try:
                answer = await self.account.call(
                    "ecs", "register_task_definition", once=True, **parameters, tags=list(tags)
                )
                return str(answer["taskDefinition"]["taskDefinitionArn"])
            except AwsError as error:
                if _BUSY_FAMILY not in error.message or pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def newest_tagged(self, family: str, tags: Mapping[str, str]) -> str | None:
        """The ARN of a family's newest revision if it carries these tags."""
        definition, found = await self.definition(family)
        return str(definition["taskDefinitionArn"]) if tags.items() <= found.items() else None

    async def update(self, definition: str) -> dict[str, Any]:
        """UpdateService with a task definition and nothing else: never a count, which autoscaling may have set.

        Sent once. When no answer comes, `describe` tells whether it was done.
        """
        answer = await self.account.call(
            "ecs", "update_service", once=True, cluster=self.cluster, service=self.name, taskDefinition=definition
        )
        return dict(answer["service"])

    async def service_deployment(self, definition: str, since: float) -> dict[str, Any] | None:
        """The newest deployment of that task definition as DescribeServiceDeployments answers; None: there is none.

        Those have identities of their own, which are needed to stop one and to read why ECS stopped it. `since`:
        only what was made after that time of ECS's own clock (a Unix time).
        """
        listed = await self._service_deployments(since)
        revisions = sorted({each["targetServiceRevisionArn"] for each in listed if "targetServiceRevisionArn" in each})
        if not revisions:
            return None
        answer = await self.account.call("ecs", "describe_service_revisions", serviceRevisionArns=revisions)
        targets = {
            each["serviceRevisionArn"] for each in answer["serviceRevisions"] if each["taskDefinition"] == definition
        }
        ours = [each for each in listed if each.get("targetServiceRevisionArn") in targets]
        if not ours:
            return None
        arn = max(ours, key=lambda each: each["createdAt"].timestamp())["serviceDeploymentArn"]
        described = await self.account.call("ecs", "describe_service_deployments", serviceDeploymentArns=[arn])
        return dict(described["serviceDeployments"][0]) if described["serviceDeployments"] else None

    async def _service_deployments(self, since: float) -> list[Json]:
        """The newest of them, as many as their revisions can be described at once."""
        found: list[Json] = []
        more: dict[str, Any] = {"createdAt": {"after": datetime.fromtimestamp(since, UTC)}}
        while True:
            answer = await self.account.call(
                "ecs", "list_service_deployments", cluster=self.cluster, service=self.name, maxResults=100, **more
            )
            found += [each for each in answer["serviceDeployments"] if each["createdAt"].timestamp() > since]
            if not answer.get("nextToken"):
                break
            more["nextToken"] = answer["nextToken"]
        return sorted(found, key=lambda each: each["createdAt"].timestamp(), reverse=True)[:_DESCRIBED_MAX]

    async def stop(self, service_deployment: str) -> None:
        """Has ECS stop a running deployment and roll it back. May be repeated: a stopped one stays so."""
        await self.account.call(
            "ecs", "stop_service_deployment", serviceDeploymentArn=service_deployment, stopType="ROLLBACK"
        )

    async def stopped_tasks(self, deployment: str) -> list[dict[str, Any]]:
        """The last five of a deployment that have ended, newest first; ECS forgets them after about an hour."""
        arns = await self.account.pages(
            "ecs", "list_tasks", "taskArns", cluster=self.cluster, serviceName=self.name, desiredStatus="STOPPED"
        )
        tasks: list[dict[str, Any]] = []
        for start in range(0, len(arns), _TASKS_MAX):
            tasks += await self.describe_tasks(arns[start : start + _TASKS_MAX])
        mine = [each for each in tasks if each.get("startedBy") == deployment]
        return sorted(mine, key=_stopped_at, reverse=True)[:_TASKS_SHOWN]

    async def describe_tasks(self, arns: Sequence[str]) -> list[dict[str, Any]]:
        if not arns:
            return []
        answer = await self.account.call("ecs", "describe_tasks", cluster=self.cluster, tasks=list(arns))
        return list(answer["tasks"])

    async def run_task(self, **parameters: Any) -> dict[str, Any]:
        """RunTask; with the same `clientToken` it starts one task, however often it is called."""
        return await self.account.call("ecs", "run_task", cluster=self.cluster, count=1, **parameters)

    async def stop_task(self, task: str, reason: str) -> None:
        await self.account.call("ecs", "stop_task", cluster=self.cluster, task=task, reason=reason)

    async def log_page(self, group: str, stream: str, token: str | None) -> tuple[list[str], str | None]:
        """The lines of a log stream since `token`, and the token after them. A stream that is not there is empty."""
        more: dict[str, Any] = {"nextToken": token} if token is not None else {}
        try:
            answer = await self.account.call(
                "logs", "get_log_events", logGroupName=group, logStreamName=stream, startFromHead=True, **more
            )
        except AwsError as error:
            if error.aws_code == "ResourceNotFoundException":
                return [], token
            raise
        return [str(event["message"]) for event in answer["events"]], answer.get("nextForwardToken")

    async def last_log_lines(self, group: str, stream: str, limit: int) -> list[str]:
        answer = await self.account.call(
            "logs", "get_log_events", logGroupName=group, logStreamName=stream, startFromHead=False, limit=limit
        )
        return [str(event["message"]) for event in answer["events"]]


async def cluster_error(account: Account, cluster: str, error: AwsError) -> SeamlessError:
    """What to raise for an error that a cluster's services met: it says so when the cluster is not there."""
    if error.aws_code != "ClusterNotFoundException":
        return error
    return StageError(
        f"there is no ECS cluster {cluster} in {await account.region()}",
        hint="cluster, region, profile and assume_role of the environment say where it is looked for",
    )


def _stopped_at(task: Json) -> float:
    at = task.get("stoppedAt") or task.get("createdAt")
    return at.timestamp() if at is not None else 0.0


def log_stream(container: Json, task: str) -> tuple[str, str] | None:
    """Log group and stream of a container of a task, when its driver is awslogs with a prefix. None otherwise."""
    configuration = container.get("logConfiguration") or {}
    options = configuration.get("options") or {}
    if configuration.get("logDriver") != "awslogs" or "awslogs-stream-prefix" not in options:
        return None
    return options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{container['name']}/{short_name(task)}"
