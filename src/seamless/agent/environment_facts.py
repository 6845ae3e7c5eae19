"""From what one asks for, what is there and what is configured to the facts of an environment. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, cast

from seamless import wire
from seamless.aws.ecr import region_of
from seamless.aws.facts import Facts, ServiceFacts, default_memory
from seamless.aws.fargate import Architecture, monthly_cost, size_problem
from seamless.aws.network import Network
from seamless.aws.places import secret_place
from seamless.config import Config, Parameters
from seamless.errors import NotFoundError, UsageError
from seamless.model import Environment


def wanted_facts(
    environment: Environment,
    region: str,
    cluster: str,
    asked: wire.EnvironmentRequest,
    known: Facts | None,
    network: Network,
    config: Config,
) -> Facts:
    """What is asked for, over what the stack knows, over what the configuration says. Not checked yet.

    Raises UsageError and NotFoundError for services that are not there.
    """
    public = asked.get("public_address")
    if public is None:
        public = network.public if known is None or asked.get("subnets") else known.public_address
    base = known or Facts(environment, region, cluster, network.vpc, network.subnets, ())
    wished = {name: value for name, value in asked.items() if name in _WISHES and value is not None}
    return dataclasses.replace(
        base,
        environment=environment,
        region=region,
        cluster=cluster,
        vpc=network.vpc,
        subnets=network.subnets,
        services=_services(environment, asked, known, config),
        public_address=public,
        **{name: tuple(value) if isinstance(value, list) else value for name, value in wished.items()},  # type: ignore[arg-type]
    )


_WISHES: Final = frozenset({"architecture", "log_days", "keys", "placeholder"})


def _services(
    environment: Environment, asked: wire.EnvironmentRequest, known: Facts | None, config: Config
) -> tuple[ServiceFacts, ...]:
    there = {} if known is None else {service.name: service for service in known.services}
    wishes = asked.get("services") or {}
    names = list(wishes) if wishes or known is not None else _using(environment, config)
    ours = {ecs_name(environment, _configured(config, name)[1], name): name for name in names}
    removed = set(asked.get("remove") or [])
    if missing := removed - there.keys():
        hint = f"there are {', '.join(there) or 'none'}"
        raise UsageError(f"{', '.join(sorted(missing))} is not in {environment}", hint=hint)
    found = []
    for name in dict.fromkeys([*there, *ours]):
        if name in removed:
            continue
        seamless_name = ours.get(name) or _configured_as(environment, config, name)
        if seamless_name is None:
            found.append(there[name])  # configured no more: it stays as it is
            continue
        fresh = _fresh(environment, config.services[seamless_name], seamless_name, there.get(name))
        found.append(_as_wished(fresh, wishes.get(seamless_name, {})))
    return tuple(found)


def _using(environment: Environment, config: Config) -> list[str]:
    """Every service that is deployed there."""
    return [
        name
        for name, parameters in config.services.items()
        if environment is Environment.PRODUCTION or parameters.use_staging
    ]


def _configured(config: Config, service: str) -> tuple[str, Parameters]:
    if service not in config.services:
        known = ", ".join(config.services) or "none yet"
        raise NotFoundError(f"there is no service {service}", hint=f"configured: {known}")
    return service, config.services[service]


def _configured_as(environment: Environment, config: Config, ecs: str) -> str | None:
    for name, parameters in config.services.items():
        if ecs_name(environment, parameters, name) == ecs:
            return name
    return None


def ecs_name(environment: Environment, parameters: Parameters, service: str) -> str:
    """What a service is called in ECS."""
    return parameters.for_environment(environment).ecs.service or service


def _fresh(environment: Environment, parameters: Parameters, service: str, known: ServiceFacts | None) -> ServiceFacts:
    """The known facts, or the defaults; in both what only the configuration says: its image's place, its secrets."""
    there = parameters.for_environment(environment)
    name = there.ecs.service or service
    if known is None:
        known = ServiceFacts(name, there.ecs.container or name, there.port, health=there.health)
    secrets = there.task_secrets.values()
    return dataclasses.replace(
        known,
        repository=ecr_repository(parameters.registry, service),
        parameters=tuple(sorted({_without_version(one.ssm) for one in secrets if one.ssm is not None})),
        secrets=tuple(
            sorted({secret_place(one.secretsmanager).id for one in secrets if one.secretsmanager is not None})
        ),
    )


def ecr_repository(registry: str | None, service: str) -> str | None:
    """The ECR repository that a service's image is pulled from: without a registry ECR's; None for another one."""
    if registry is None:
        return service
    host, _, prefix = registry.partition("/")
    if region_of(host) is None:
        return None
    return f"{prefix}/{service}" if prefix else service


def _without_version(parameter: str) -> str:
    head, colon, name = parameter.rpartition(":parameter")
    return f"{head}{colon}{name.partition(':')[0]}"


def _as_wished(service: ServiceFacts, wish: wire.ServiceFactsRequest) -> ServiceFacts:
    changed = dataclasses.replace(service, **cast(Mapping[str, Any], wish))
    if "cpu" in wish and "memory" not in wish and size_problem(changed.cpu, changed.memory) is not None:
        changed = dataclasses.replace(changed, memory=default_memory(changed.cpu))
    if changed.target_group is None:
        changed = dataclasses.replace(changed, reached_from=())
    return changed


def total_cost(facts: Facts) -> float:
    """USD a month of all tasks, at the list price of `fargate.PRICE_REGION`."""
    architecture: Architecture = facts.architecture
    return sum(
        service.count
        * monthly_cost(service.cpu, service.memory, architecture=architecture, public_address=facts.public_address)
        for service in facts.services
    )
