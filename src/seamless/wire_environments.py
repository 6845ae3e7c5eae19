"""As `wire`: environments in AWS."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from seamless.wire import ErrorBody


class ServiceFactsRequest(TypedDict, total=False):
    """What one asks of a service in an AWS environment; what is not there stays, or is the default."""

    port: int | None
    cpu: int  # CPU units
    memory: int  # MiB
    count: int
    target_group: str | None  # ARN; makes it public


class EnvironmentRequest(TypedDict, total=False):
    """POST /v1/environments/{environment}/plan and /up. What is not there is found out, or stays as it is."""

    region: str | None
    cluster: str | None
    vpc: str | None
    subnets: list[str]
    public_address: bool | None
    architecture: str | None  # "X86_64" or "ARM64"
    log_days: int | None
    keys: list[str]  # ARNs of KMS keys
    placeholder: str | None  # image
    services: dict[str, ServiceFactsRequest]  # by Seamless's name; default: those there are, else all configured
    remove: list[str]
    bucket: str | None  # for a template that is too large to be sent
    fingerprint: str | None  # of the plan that was confirmed; for /up


class StackChangeJSON(TypedDict):
    action: str  # "add", "change", "remove"
    type: str  # CloudFormation's, e.g. "AWS::ECS::Service"
    name: str  # logical id


class EnvironmentPlanJSON(TypedDict):
    """What `env up` would do."""

    environment: str
    region: str
    cluster: str
    stack: str
    action: str  # "create", "change", "nothing"
    facts: dict[str, Any]  # `aws.facts.Facts`
    changes: list[StackChangeJSON]
    deployed_anew: list[str]  # services whose tasks are replaced, by what runs now
    monthly_usd: float  # of the tasks, at the list price of us-east-1
    template: str  # JSON
    fingerprint: str


class StackJSON(TypedDict):
    id: str
    name: str
    status: str
    reason: str | None
    changed_at: str


class StackOperationJSON(TypedDict):
    """What was begun; `since` is from when on its events count."""

    stack: StackJSON
    since: str
    action: str  # "create", "change", "delete", "nothing"


class EnvironmentServiceJSON(TypedDict):
    name: str
    desired: int
    running: int
    pending: int
    rollout: str | None
    task_definition: str  # "family:revision"


class TaskSizeJSON(TypedDict):
    cpu: int  # CPU units; 1024 are one vCPU
    memory: list[int]  # MiB that go with it, least first


class EnvironmentJSON(TypedDict):
    """GET /v1/environments/{environment}"""

    environment: str
    target: str  # as configured: "docker", "ecs"
    region: str
    cluster: str
    configured: bool  # the configuration deploys there
    stack: StackJSON | None
    facts: dict[str, Any] | None  # of a stack of Seamless's
    services: list[EnvironmentServiceJSON]
    configured_services: dict[str, str]  # what the configuration puts there -> its name in ECS
    sizes: list[TaskSizeJSON]  # that tasks can have there


class StackEventJSON(TypedDict):
    at: str
    resource: str
    type: str
    status: str
    reason: str | None


class StackResultJSON(TypedDict):
    ok: bool
    status: str
    reasons: list[str]  # what went wrong first, when it did


class StackProgressJSON(TypedDict, total=False):
    """A line of GET /v1/environments/{environment}/progress: an event, and at last the result, or an error."""

    event: StackEventJSON
    result: StackResultJSON
    error: ErrorBody


class EnvironmentDownRequest(TypedDict):
    """POST /v1/environments/{environment}/down"""

    name: str  # of the environment, typed by the one who wants it
    region: NotRequired[str | None]
    cluster: NotRequired[str | None]
