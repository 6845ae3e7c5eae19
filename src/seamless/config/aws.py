"""The tables that say where AWS is, and what runs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from seamless.config import values as v
from seamless.config.table import Table
from seamless.model import Environment


class Aws(Table):
    """How to reach AWS. Nothing of it is needed where the AWS SDK finds region and credentials by itself."""

    region: v.Maybe[v.AwsRegion] = Field(default=None, description='such as `"eu-central-1"`; default: the profile\'s')
    profile: v.Maybe[v.Line] = Field(
        default=None, description="a profile of the agent's `~/.aws/config`; default: the SDK's usual search"
    )
    assume_role: v.Maybe[v.RoleArn] = Field(default=None, description="the ARN of a role to assume for every call")
    endpoint_url: v.Maybe[v.HttpUrl] = Field(
        default=None, description="where AWS's API answers, when not at its usual address (a proxy, a test)"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster of ECS, and how to reach the account and region that it is in."""

    access: Aws
    cluster: str


class EnvironmentSettings(Aws):
    """Where an environment is: this host's Docker Engine, or a cluster of ECS.

    What `[aws]` says counts for it as well, key by key, where it says nothing itself.
    """

    target: Literal["docker", "ecs"] = Field(default="docker", description="where services are deployed")
    cluster: v.Maybe[v.EcsName] = Field(default=None, description="the ECS cluster; required for `ecs`")

    @model_validator(mode="after")
    def _fits_its_target(self) -> EnvironmentSettings:
        if self.target == "ecs" and self.cluster is None:
            raise ValueError('needs cluster, the name of the ECS cluster, such as "prod"')
        for key in ("cluster", *Aws.model_fields):
            if self.target != "ecs" and getattr(self, key) is not None:
                raise ValueError(f'{key} is for environments with target = "ecs", and this one\'s is {self.target}')
        return self


class EcsSettings(Aws):
    """What an `ecs` environment has to know of a service. Its task definition lives in ECS.

    `cluster`, and the keys of `[aws]`, are for a service that is not where its environment is: in a cluster of its own,
    perhaps in another region or account. They lie over the environment's, key by key.
    """

    cluster: v.Maybe[v.EcsName] = Field(default=None, description="the service's cluster; default: the environment's")
    service: v.Maybe[v.EcsName] = Field(default=None, description="the ECS service; default: the service's own name")
    container: v.Maybe[v.EcsName] = Field(
        default=None,
        description="the container of its task definition that gets the image; default: the one with the service's "
        "own name, else the only one",
    )
    before_deploy: v.Maybe[v.Script] = Field(
        default=None,
        description="runs in the new image as a task of its own before the service is updated, such as a migration; "
        "the deployment goes on only when it exits with 0",
    )
    before_deploy_timeout: v.Duration | None = Field(
        default=None, description="for that task to end; default: `deploy_timeout`"
    )


def laid_over(*layers: Aws) -> Aws:
    """How to reach AWS: each layer's keys over those of the ones before it."""
    found = Aws()
    for layer in layers:
        found = found.model_copy(update=layer.model_dump(include=set(Aws.model_fields), exclude_none=True))
    return found


def place_of(aws: Aws, environment: Environment, settings: EnvironmentSettings, own: EcsSettings | None) -> Place:
    """Where an environment is in ECS, or a service of it by its `own` table. A cluster that nothing names has the
    environment's name.
    """
    own = own or EcsSettings()
    return Place(laid_over(aws, settings, own), own.cluster or settings.cluster or environment.value)
