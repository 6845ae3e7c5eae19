"""What a target is told of an environment and of a service in it."""

from __future__ import annotations

from typing import Any

from seamless.config import Aws, Config, Parameters
from seamless.model import Environment


def settings_of(config: Config, parameters: Parameters, environment: Environment) -> dict[str, Any]:
    """`DeployRequest.settings`, JSON: `[environments.<name>]`, and for ECS how to reach AWS and the service's own."""
    settings = config.environments[environment].model_dump(mode="json")
    if config.environments[environment].target != "ecs":
        return settings
    deploy = parameters.for_environment(environment)
    place = config.place_of(environment, parameters)
    return {
        **settings,
        **place.access.model_dump(mode="json"),
        "cluster": place.cluster,
        "ecs": deploy.ecs.model_dump(mode="json", exclude={"cluster", *Aws.model_fields}),
        "task_env": deploy.task_env,
        "task_secrets": {name: secret.model_dump(mode="json") for name, secret in deploy.task_secrets.items()},
    }
