"""From a TOML file to a Config, or to one error that lists everything that is wrong with the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from seamless.config.aws import Aws, EnvironmentSettings, Place, place_of
from seamless.config.contradictions import contradictions
from seamless.config.github import GitHub
from seamless.config.models import Access, Agent, Document, Parameters, Registry, Retention
from seamless.config.notify import Notify
from seamless.config.problems import Problem, dotted, from_validation, wrong_type
from seamless.config.schema import KeyPath, is_written, leaves, overlay
from seamless.config.secret import SecretRef
from seamless.config.values import FileContext
from seamless.errors import ConfigError, NotFoundError
from seamless.model import Environment
from seamless.tomlfile import read_toml, shown

Source = Literal["service", "pipeline", "default"]


@dataclass(frozen=True, slots=True)
class Config:
    """A whole, valid configuration. `pipeline` and `written` are its tables as they stand in the file."""

    file: Path
    agent: Agent
    registries: Mapping[str, Registry]
    github: GitHub
    aws: Aws
    environments: Mapping[Environment, EnvironmentSettings]  # both, always
    services: Mapping[str, Parameters]  # resolved, by name
    notify: Mapping[str, Notify]
    access: Access | None
    retention: Retention
    pipeline: Mapping[str, Any]
    written: Mapping[str, Mapping[str, Any]]  # by service

    def place_of(self, environment: Environment, service: Parameters | None = None) -> Place:
        """Where an environment is in ECS, or a service of it that may be elsewhere."""
        own = None if service is None else service.for_environment(environment).ecs
        return place_of(self.aws, environment, self.environments[environment], own)

    def images_access(self, service: Parameters | None = None) -> Aws:
        """The account and region of ECR: `[aws]`, and when that says nothing where ECS is, production before staging.

        `service`: the one whose images they are, which may be elsewhere than its environments.
        """
        if self.aws != Aws():
            return self.aws
        order = (Environment.PRODUCTION, Environment.STAGING)
        in_ecs = [each for each in order if self.environments[each].target == "ecs"]
        return self.place_of(in_ecs[0], service).access if in_ecs else self.aws

    def parameter_sources(self, service: str) -> dict[str, Source]:
        """Dotted parameter (`env.NODE_ENV`, `limits.cpus`) -> where its value comes from. Raises NotFoundError."""
        if service not in self.services:
            raise NotFoundError(f"there is no service {service}")
        own = self.written[service]
        return {
            dotted(path): "service"
            if is_written(own, path)
            else "pipeline"
            if is_written(self.pipeline, path)
            else "default"
            for path in leaves(self.services[service])
        }


def load_config(path: Path) -> Config:
    """Reads and checks the whole file. Raises ConfigError, one problem a line, each with the file and the key."""
    return config_from(read_toml(path), path)


def config_from(data: Mapping[str, Any], path: Path) -> Config:
    """As `load_config`, for a file that was parsed already; `path` need not exist."""
    pipeline, services = _table(data, "pipeline"), _table(data, "services")
    layered = {
        name: overlay(Parameters, pipeline, own) if isinstance(own, dict) else own for name, own in services.items()
    }
    document, problems = _validated(data, layered, FileContext(path.absolute().parent))
    if document is not None:
        problems = contradictions(document)
    placed = [Problem(_origin(problem.path, services, pipeline), problem.text) for problem in problems]
    placed += _pipeline_problems(data, FileContext(path.absolute().parent))
    if placed or document is None:
        lines = dict.fromkeys(f"{shown(path)}: {problem}" for problem in placed)
        raise ConfigError("\n".join(lines))
    github = _logged_in(document)
    return Config(
        file=path.absolute(),
        agent=document.agent,
        registries=document.registries,
        github=github,
        aws=document.aws,
        environments=document.environments,
        notify=document.notify,
        services={name: _with_token(service, github) for name, service in document.services.items()},
        access=document.access,
        retention=document.retention,
        pipeline=pipeline,
        written=services,
    )


def _logged_in(document: Document) -> GitHub:
    """`[github]`, with the token that `seamless login` stored where the file names none."""
    # isfile: of a folder that is the agent's alone it says no, where Path.is_file raises
    if document.github.token is not None or not os.path.isfile(document.agent.login_token_file):
        return document.github
    return document.github.model_copy(update={"token": SecretRef(file=document.agent.login_token_file)})


def _with_token(service: Parameters, github: GitHub) -> Parameters:
    return service.model_copy(update={"git": github.credentials_for(service.repo, service.git)})


def _validated(data: Mapping[str, Any], services: Any, context: FileContext) -> tuple[Document | None, list[Problem]]:
    merged = {key: value for key, value in data.items() if key != "pipeline"}
    if isinstance(data.get("services", {}), dict):
        merged["services"] = services
    try:
        return Document.model_validate(merged, context=context), []
    except ValidationError as error:
        return None, [from_validation(detail) for detail in error.errors(include_url=False)]


def _pipeline_problems(data: Mapping[str, Any], context: FileContext) -> list[Problem]:
    """Those of the defaults by themselves, which no service may use; what is required may be left to the services."""
    pipeline = data.get("pipeline", {})
    if not isinstance(pipeline, dict):
        return [wrong_type(("pipeline",), pipeline)]
    try:
        Parameters.model_validate(pipeline, context=context)
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if detail["type"] != "missing"]
        return [_moved(from_validation({**detail, "loc": ("services", "", *detail["loc"])})) for detail in details]
    return []


def _moved(problem: Problem) -> Problem:
    return Problem(("pipeline", *problem.path[2:]), problem.text)


def _origin(path: KeyPath, services: Mapping[str, Any], pipeline: Mapping[str, Any]) -> KeyPath:
    """Where the value at `path` of the layered document was written: below the service, or in [pipeline]."""
    if path[:1] != ("services",) or len(path) < 3 or is_written(services, path[1:]):
        return path
    return ("pipeline", *path[2:]) if is_written(pipeline, path[2:]) else path


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    return value if isinstance(value, dict) else {}
