"""The few facts of which an environment in AWS is made. Its CloudFormation template is a function of these alone.

They are kept in the template's own metadata, so that an environment can be changed later from any build host.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from seamless.aws.fargate import MEMORY_BY_CPU, Architecture, size_problem
from seamless.config.values import AWS_REGION, TARGET_GROUP_ARN
from seamless.errors import UsageError
from seamless.model import SERVICE_NAME

MOST_SERVICES: Final = 50  # with seven resources each, below CloudFormation's 500 for a template
_MOST_TASKS: Final = 5000
_REGION: Final = re.compile(AWS_REGION)
_CLUSTER: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,98}[A-Za-z0-9])?")
_CONTAINER: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TARGET_GROUP: Final = re.compile(TARGET_GROUP_ARN)
_KEY: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One service of an environment."""

    name: str  # the ECS service's too
    container: str  # the service's own container in its tasks
    port: int | None = None  # None: it takes no connections, such as a worker
    cpu: int = 256  # CPU units; 1024 are one vCPU
    memory: int = 512  # MiB
    count: int = 1  # tasks that run
    health: str = ""  # the path that the placeholder answers, beside /
    target_group: str | None = None  # ARN; the service is public behind its load balancer
    reached_from: tuple[str, ...] = ()  # security groups of that load balancer
    repository: str | None = None  # of ECR, that its image is pulled from: name here, else ARN; None: not ECR's
    parameters: tuple[str, ...] = ()  # SSM parameters that its tasks are given, by name or ARN
    secrets: tuple[str, ...] = ()  # Secrets Manager's, by name or ARN


@dataclass(frozen=True, slots=True)
class Facts:
    """One environment: what `seamless env up` asks for, or finds out."""

    environment: str  # "staging" or "production"
    region: str
    cluster: str
    vpc: str
    subnets: tuple[str, ...]
    services: tuple[ServiceFacts, ...]
    public_address: bool = True  # tasks have a public IPv4 address, without which public subnets lead nowhere
    architecture: Architecture = "X86_64"
    log_days: int = 30
    keys: tuple[str, ...] = ()  # ARNs of customer-managed KMS keys that encrypt secrets of the services
    placeholder: str = "public.ecr.aws/docker/library/busybox:stable"  # runs until the first deployment

    @property
    def stack(self) -> str:
        """The name of its CloudFormation stack."""
        return f"seamless-{self.cluster}"

    def to_json(self) -> dict[str, Any]:
        """Without what is None: CloudFormation's metadata knows no null."""
        services = [_without_none(dataclasses.asdict(service)) for service in self.services]
        return {**dataclasses.asdict(self), "services": services}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Facts:
        """Takes what `to_json` gave, of this version or an earlier one. Raises UsageError."""
        try:
            services = tuple(ServiceFacts(**_frozen(service)) for service in value["services"])
            return cls(**{**_frozen(value), "services": services})
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"the facts of the environment cannot be read: {error}",
                hint="a newer Seamless may have written them; install the same version",
            ) from None

    def check(self) -> None:
        """Raises UsageError with everything that is wrong, a line each, before anything is asked of AWS."""
        problems = list(self._problems())
        if problems:
            raise UsageError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        if not _REGION.fullmatch(self.region):
            yield f"region: {self.region!r} is not a region such as eu-central-1"
        if not _CLUSTER.fullmatch(self.cluster):
            yield f"cluster: {self.cluster!r} must be 1 to 100 letters, digits and hyphens, no hyphen at its ends"
        if not self.subnets:
            yield f"subnets: none are named, and {self.vpc or 'the network'} has none to offer"
        if not self.services:
            yield "services: an environment needs at least one"
        if len(self.services) > MOST_SERVICES:
            yield f"services: {len(self.services)} are more than the {MOST_SERVICES} that one stack holds"
        names = [service.name for service in self.services]
        yield from (f"services: {name} is named twice" for name in sorted({n for n in names if names.count(n) > 1}))
        if self.log_days not in LOG_DAYS:
            yield f"log_days: CloudWatch keeps logs for {', '.join(map(str, LOG_DAYS))} days, not {self.log_days}"
        yield from (f"keys: {key!r} is not the ARN of a KMS key" for key in self.keys if not _KEY.fullmatch(key))
        for service in self.services:
            yield from (f"{service.name}: {problem}" for problem in _service_problems(service))


LOG_DAYS: Final = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)
"""What `RetentionInDays` of a log group may be (CloudFormation's reference, AWS::Logs::LogGroup)."""


def _service_problems(service: ServiceFacts) -> Iterator[str]:
    if not SERVICE_NAME.fullmatch(service.name):
        yield "must be 1 to 63 lower-case letters, digits and hyphens, no hyphen at its ends"
    if not _CONTAINER.fullmatch(service.container):
        yield f"container: {service.container!r} is not a container's name"
    if service.port is not None and not 1 <= service.port <= 65535:
        yield f"port: {service.port} is not a port"
    if not 0 <= service.count <= _MOST_TASKS:
        yield f"count: must be between 0 and {_MOST_TASKS}, not {service.count}"
    if service.target_group is not None:
        if not _TARGET_GROUP.fullmatch(service.target_group):
            yield f"target_group: {service.target_group!r} is not the ARN of a load balancer's target group"
        if service.port is None:
            yield "target_group: a public service needs port, the one that its container listens on"
    size = size_problem(service.cpu, service.memory)
    if size is not None:
        yield size


def default_memory(cpu: int) -> int:
    """The least that goes with `cpu`, for one who names only that."""
    return MEMORY_BY_CPU.get(cpu, (512,))[0]


def _frozen(value: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that they were."""
    return {
        key: tuple(item) if isinstance(item, Sequence) and not isinstance(item, str) else item
        for key, item in value.items()
    }


def _without_none(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}
