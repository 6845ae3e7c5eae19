"""From what one asks for, what is there and what is configured to the facts of an environment. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from seamless import wire_environments
from seamless.aws.facts import Facts, ServiceFacts, default_memory
from seamless.aws.fargate import Architecture, monthly_cost, size_problem
from seamless.aws.network import Network
from seamless.aws.places import secret_place
from seamless.config import Config, Parameters, Place
from seamless.errors import NotFoundError, UsageError
from seamless.model import Environment


def wanted_facts(
    environment: Environment,
    region: str,
    cluster: str,
    asked: wire_environments.EnvironmentRequest,
    known: Facts | None,
    network: Network,
    config: Config,
    here: Mapping[str, str | None],
) -> Facts:
    """What is asked for, over what the stack knows, over what the configuration says. Not checked yet.

    `here`: the services that belong into this cluster, each with its `ServiceFacts.repository`. Raises UsageError and
    NotFoundError for services that are not there.
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
        services=_services(environment, asked, known, config, here),
        public_address=public,
        **{name: tuple(value) if isinstance(value, list) else value for name, value in wished.items()},  # type: ignore[arg-type]
    )


_WISHES: Final = frozenset({"architecture", "log_days", "keys", "placeholder"})


def services_here(environment: Environment, place: Place, config: Config) -> list[str]:
    """The services that the configuration puts into that cluster of the environment.

    A cluster that it does not name is about to take the environment's place: then those without one of their own.
    """
    places = {
        name: config.place_of(environment, parameters)
        for name, parameters in config.services.items()
        if environment is Environment.PRODUCTION or parameters.use_staging
    }
    common = config.place_of(environment)
    wanted = place if place in (common, *places.values()) else common
    return [name for name, one in places.items() if one == wanted]


def find_place(environment: Environment, region: str | None, cluster: str | None, config: Config) -> Place:
    """The cluster that is meant: one that the configuration names, for the environment or a service of it, by its name
    and region; else one that is to be, in the environment's account.
    """
    common = config.place_of(environment)
    known = [common, *(config.place_of(environment, parameters) for parameters in config.services.values())]
    for place in known:
        if place.cluster == (cluster or common.cluster) and region in (None, place.access.region):
            return place
    access = common.access if region is None else common.access.model_copy(update={"region": region})
    return Place(access, cluster or common.cluster)


def _services(
    environment: Environment,
    asked: wire_environments.EnvironmentRequest,
    known: Facts | None,
    config: Config,
    here: Mapping[str, str | None],
) -> tuple[ServiceFacts, ...]:
    there = {} if known is None else {service.name: service for service in known.services}
    wishes = asked.get("services") or {}
    names = list(wishes) if wishes or known is not None else list(here)
    for name in names:
        _refuse_elsewhere(environment, config, name, here)
    ours = {ecs_name(environment, config.services[name], name): name for name in names}
    removed = set(asked.get("remove") or [])
    if missing := removed - there.keys():
        hint = f"there are {', '.join(there) or 'none'}"
        raise UsageError(f"{', '.join(sorted(missing))} is not in {environment}", hint=hint)
    found = []
    for name in dict.fromkeys([*there, *ours]):
        if name in removed:
            continue
        seamless_name = ours.get(name) or _configured_as(environment, config, name, here)
        if seamless_name is None:
            found.append(there[name])  # configured no more: it stays as it is
            continue
        parameters, repository = config.services[seamless_name], here[seamless_name]
        fresh = _fresh(environment, parameters, seamless_name, there.get(name), repository)
        found.append(_as_wished(fresh, wishes.get(seamless_name, {})))
    return tuple(found)


def _refuse_elsewhere(environment: Environment, config: Config, service: str, here: Collection[str]) -> None:
    if service not in config.services:
        known = ", ".join(config.services) or "none yet"
        raise NotFoundError(f"there is no service {service}", hint=f"configured: {known}")
    if service in here:
        return
    parameters = config.services[service]
    if environment is Environment.STAGING and not parameters.use_staging:
        raise UsageError(f"{service} has no staging", hint=f"services.{service}.use_staging is false")
    cluster = config.place_of(environment, parameters).cluster
    raise UsageError(
        f"{service} is configured for another place in {environment}: the cluster {cluster}",
        hint=f"seamless env up {environment} --cluster {cluster}, or correct services.{service}.ecs",
    )


def _configured_as(environment: Environment, config: Config, ecs: str, here: Collection[str]) -> str | None:
    return next((name for name in here if ecs_name(environment, config.services[name], name) == ecs), None)


def ecs_name(environment: Environment, parameters: Parameters, service: str) -> str:
    """What a service is called in ECS."""
    return parameters.for_environment(environment).ecs.service or service


def _fresh(
    environment: Environment,
    parameters: Parameters,
    service: str,
    known: ServiceFacts | None,
    repository: str | None,
) -> ServiceFacts:
    """The known facts, or the defaults; in both what only the configuration says: its image's place, its secrets."""
    there = parameters.for_environment(environment)
    name = there.ecs.service or service
    if known is None:
        known = ServiceFacts(name, there.ecs.container or name, there.port, health=there.health)
    secrets = there.task_secrets.values()
    return dataclasses.replace(
        known,
        repository=repository,
        parameters=tuple(sorted({_without_version(one.ssm) for one in secrets if one.ssm is not None})),
        secrets=tuple(
            sorted({secret_place(one.secretsmanager).id for one in secrets if one.secretsmanager is not None})
        ),
    )


def _without_version(parameter: str) -> str:
    head, colon, name = parameter.rpartition(":parameter")
    return f"{head}{colon}{name.partition(':')[0]}"


def _as_wished(service: ServiceFacts, wish: wire_environments.ServiceFactsRequest) -> ServiceFacts:
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
