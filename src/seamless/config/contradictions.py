"""Values that are right one by one and wrong together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seamless.config.aws import place_of
from seamless.config.models import Document, Parameters
from seamless.config.problems import Problem, nearest
from seamless.config.schema import KeyPath
from seamless.model import Environment


def contradictions(document: Document) -> list[Problem]:
    """What cannot work, with the path of the value to change."""
    found: list[Problem] = []
    for name, service in document.services.items():
        found += [Problem(("services", name, *problem.path), problem.text) for problem in _of_service(service)]
        found += _unknown_peers(document, name, service)
        found += _reads_like_a_run(document, name)
        found += _before_deploy_without_ecs(document, name, service)
        found += _secrets_of_the_host_in_ecs(document, name, service)
        found += _staging_is_production(document, name, service)
    return [*found, *_unknown_services(document), *_shared_host_ports(document)]


def _of_service(service: Parameters) -> Iterator[Problem]:
    yield from _plain_and_secret((), service.env.keys() & service.secrets.keys())
    for environment, own in service.environments.items():
        yield from _plain_and_secret(("environments", environment.value), own.env.keys() & own.secrets.keys())
    for environment in Environment:
        resolved = service.for_environment(environment)
        if resolved.publish is not None and resolved.port is None:
            yield Problem(_place_of_publish(service, environment), "needs port, the port that the container listens on")
            return


def _plain_and_secret(place: KeyPath, names: set[str]) -> Iterator[Problem]:
    for name in sorted(names):
        yield Problem((*place, "secrets", name), "is in env as well; keep one of the two")


def _unknown_peers(document: Document, name: str, service: Parameters) -> Iterator[Problem]:
    for alias, peer in service.integration_test.map.items() if service.integration_test else ():
        if peer not in document.services:
            near = nearest(peer, list(document.services))
            yield Problem(("services", name, "integration_test", "map", alias), f"there is no service {peer}{near}")


def _secrets_of_the_host_in_ecs(document: Document, name: str, service: Parameters) -> Iterator[Problem]:
    """A task is given the reference, not the secret, so ECS must be able to read it."""
    for environment, own in service.environments.items():
        if document.environments[environment].target != "ecs":
            continue
        for variable, secret in own.secrets.items():
            if secret.source not in ("ssm", "secretsmanager"):
                place = ("services", name, "environments", environment.value, "secrets", variable)
                yield Problem(
                    place, f"{environment.value} is in ECS, which reads secrets from ssm or secretsmanager only"
                )


def _staging_is_production(document: Document, name: str, service: Parameters) -> Iterator[Problem]:
    """One service of ECS for both: what goes to staging would be in production at once."""
    if not service.use_staging or any(each.target != "ecs" for each in document.environments.values()):
        return
    meant = []
    for environment in Environment:
        own = service.for_environment(environment).ecs
        place = place_of(document.aws, environment, document.environments[environment], own)
        meant.append((place, own.service or name))
    if meant[0] == meant[1]:
        where = f"{meant[0][1]} in the cluster {meant[0][0].cluster}"
        text = f"staging and production are one and the same service of ECS, {where}; give one its own cluster or name"
        yield Problem(("services", name), text)


def _reads_like_a_run(document: Document, name: str) -> Iterator[Problem]:
    match = re.fullmatch(r"(.+)-([0-9]+)", name)
    if match and match[1] in document.services:
        yield Problem(("services", name), f"reads like run {match[2]} of the service {match[1]}; give it another name")


def _unknown_services(document: Document) -> Iterator[Problem]:
    for name, notify in document.notify.items():
        for number, service in enumerate(notify.services):
            if service not in document.services:
                near = nearest(service, list(document.services))
                yield Problem(("notify", name, "services", number), f"there is no service {service}{near}")


def _before_deploy_without_ecs(document: Document, name: str, service: Parameters) -> Iterator[Problem]:
    anywhere = any(settings.target == "ecs" for settings in document.environments.values())
    if service.ecs.before_deploy is not None and not anywhere:
        place = ("services", name, "ecs", "before_deploy")
        yield Problem(place, 'runs in environments with target = "ecs", and there is none')


def _shared_host_ports(document: Document) -> Iterator[Problem]:
    """Two containers of this host cannot publish one port."""
    taken: dict[int, str] = {}
    for name, service in document.services.items():
        for environment in Environment if service.use_staging else (Environment.PRODUCTION,):
            port = service.for_environment(environment).publish
            if port is None or document.environments[environment].target != "docker":
                continue
            user = f"{name} in {environment}"
            if port in taken:
                place = ("services", name, *_place_of_publish(service, environment))
                yield Problem(place, f"port {port} of this host is {taken[port]}'s already, and {user} wants it too")
            taken.setdefault(port, user)


def _place_of_publish(service: Parameters, environment: Environment) -> KeyPath:
    own = service.environments.get(environment)
    return ("environments", environment.value, "publish") if own and own.publish is not None else ("publish",)
