"""What `seamless env up` asks of a person at a terminal; what cannot be is asked again at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from seamless.cli.asking import ask
from seamless.config.values import AWS_REGION, TARGET_GROUP_ARN

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire_environments import ServiceFactsRequest, TaskSizeJSON

_PORT_MAX: Final = 65535
_TASKS_MAX: Final = 5000  # of one service of ECS

Check = Callable[[str], str | None]


def ask_region() -> str:
    """Where nothing configures one."""
    return ask("Region, such as eu-central-1", "", _matching(AWS_REGION, "must be a region such as eu-central-1"))


def ask_for(agent: Client, service: str, sizes: Sequence[TaskSizeJSON]) -> ServiceFactsRequest:
    """The few facts of one service, with defaults that fit together."""
    print(f"{service}:")
    memories = {size["cpu"]: size["memory"] for size in sizes}
    configured = agent.service(service)["parameters"]["port"] or 0
    port = int(ask("  port that it listens on, 0 for none", str(configured), _between(0, _PORT_MAX)))
    cpu = int(ask("  CPU units (1024 are one vCPU)", str(min(memories)), _one_of(list(memories))))
    memory = int(ask("  memory in MiB", str(memories[cpu][0]), _one_of(memories[cpu])))
    count = int(ask("  tasks", "1", _between(0, _TASKS_MAX)))
    facts: ServiceFactsRequest = {"port": port or None, "cpu": cpu, "memory": memory, "count": count}
    if port:  # nothing to be reached at otherwise
        entrance = _matching(
            TARGET_GROUP_ARN, "must be arn:aws:elasticloadbalancing:…:targetgroup/…, or nothing", empty=True
        )
        if target_group := ask("  public? ARN of its load balancer's target group, or nothing", "", entrance):
            facts["target_group"] = target_group
    return facts


def _between(least: int, most: int) -> Check:
    return lambda answer: (
        None if answer.isascii() and answer.isdigit() and least <= int(answer) <= most else f"{least} to {most}"
    )


def _one_of(numbers: Sequence[int]) -> Check:
    return lambda answer: None if answer in map(str, numbers) else f"one of {', '.join(map(str, numbers))}"


def _matching(pattern: str, wanted: str, *, empty: bool = False) -> Check:
    return lambda answer: None if re.fullmatch(pattern, answer) or (empty and not answer) else wanted
