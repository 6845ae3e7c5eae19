"""The tables of the configuration. Each field's description is its line in docs/configuration.md.

Unknown keys and wrong types are refused, nothing is converted silently, nothing can be changed after
loading. `model_dump(mode="json")` of a table is deterministic, and `model_validate` takes it back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, Field, field_validator

from seamless.config import values as v
from seamless.config.aws import Aws, EcsSettings, EnvironmentSettings
from seamless.config.github import Git, GitHub
from seamless.config.notify import Notify
from seamless.config.secret import Secret, SecretRef
from seamless.config.table import Table
from seamless.config.webhooks import Webhooks
from seamless.model import Environment, Trigger
from seamless.paths import default_data_dir, default_socket

E = TypeVar("E")
S = TypeVar("S")

_SOCKET_PATH_MAX: Final = 107  # bytes; the kernel's sun_path, less its NUL


class Limits(Table):
    """What one container may use."""

    cpus: Annotated[float, v.Words("number"), Gt(0), Le(1024)] = Field(default=2.0, description="processors")
    memory: v.MemorySize = Field(default=2 * 2**30, description="memory, swap not added")
    pids: Annotated[int, Ge(16), Le(2**22)] = Field(default=2048, description="processes and threads")


class LimitOverrides(Table):
    """Limits of an environment; what is not set here is the service's."""

    cpus: Annotated[float, v.Words("number"), Gt(0), Le(1024)] | None = Field(default=None, description="processors")
    memory: v.MemorySize | None = Field(default=None, description="memory, swap not added")
    pids: Annotated[int, Ge(16), Le(2**22)] | None = Field(default=None, description="processes and threads")


class Build(Table):
    """How the image is built, by BuildKit, from the pristine commit. Paths count from the service's `path`."""

    dockerfile: v.CheckoutFile = Field(default="Dockerfile", description="the Dockerfile")
    context: v.CheckoutFolder = Field(default=".", description="the folder that the build sees")
    args: v.Sorted[v.EnvName, v.BuildArgument] = Field(
        default={}, description="build arguments; they stay in the image"
    )
    target: v.MaybeWord = Field(default="", description="the stage of the Dockerfile to build; empty: the last")
    platform: v.Platform = Field(default="", description='such as `"linux/amd64"`; empty: the engine\'s own')
    secrets: v.Sorted[v.Word, Secret] = Field(
        default={},
        description="build secrets by id, for `RUN --mount=type=secret,id=…`; they leave no trace in the image",
    )


class IntegrationTest(Table):
    """A Docker Compose project in which the candidate is tested with the other services as deployed."""

    compose_file: v.CheckoutFile = Field(description="the Compose file; empty: no integration test for this service")
    test_service: v.Word = Field(description="the Compose service whose exit code decides")
    repo: v.Maybe[v.RepositoryUrl] = Field(
        default=None, description="the repository that holds the file; default: `repo`"
    )
    path: v.CheckoutRoot = Field(
        default="",
        description="the folder of that other repository that `compose_file` counts from; without `repo` it counts "
        "from the service's `path`",
    )
    branch: v.Branch = Field(default="main", description="the branch of that other repository")
    map: v.Sorted[v.Word, v.ServiceName] = Field(
        default={}, description="Compose services that are Seamless services under another name"
    )


class ServiceEnvironment(Table):
    """What differs in one environment. It lies over the service's own values, key by key."""

    env: v.Sorted[v.EnvName, v.Text] = Field(
        default={},
        description="variables of the deployed container; on ECS these, and not the service's, lie over the task "
        "definition's",
    )
    secrets: v.Sorted[v.EnvName, Secret] = Field(
        default={}, description="secret variables of the deployed container; on ECS as for `env`"
    )
    port: v.Port | None = Field(default=None, description="the port that the container listens on")
    publish: v.Port | None = Field(
        default=None, description="the port of the host that leads to it; each container needs one of its own"
    )
    health: v.HealthPath | None = Field(default=None, description="answers 2xx or 3xx when the service is well")
    limits: LimitOverrides = Field(default=LimitOverrides(), description="limits of the deployed container")
    ecs: EcsSettings = Field(default=EcsSettings(), description="the service in this environment's ECS cluster")


class DeployParameters(Table):
    """A service's parameters in one environment, with nothing left to inherit.

    `task_env` and `task_secrets` are what lies over a task definition of ECS: the environment's own variables only,
    since those of the pipeline are the stages' as well.
    """

    env: dict[str, str]
    secrets: dict[str, Secret]
    port: int | None
    publish: int | None
    health: str
    limits: Limits
    ecs: EcsSettings
    task_env: dict[str, str]
    task_secrets: dict[str, Secret]


class Parameters(Table):
    """Everything that the pipeline needs to know about one service.

    Defaults are filled in. A run keeps its JSON, so that it ends on the parameters that it began with.
    """

    repo: v.RepositoryUrl = Field(description="where the code is; a relative path counts from this file's folder")
    path: v.CheckoutRoot = Field(default="", description="the service's folder in the repository")
    branch: v.Branch = Field(default="main", description="the branch that leads to production")
    triggers: list[v.PushTrigger] = Field(
        default=[Trigger.MAIN, Trigger.PR_OPEN, Trigger.PR_SYNC],
        description="what starts a run by itself",
    )
    watch_paths: list[v.WatchPattern] = Field(
        default=[],
        description="patterns of a .gitignore that count from the repository's root: changes there start runs as those "
        "in `path` do, and `!` takes out; with neither, every change does",
    )
    refs: list[v.RefPattern] = Field(
        default=[], description="other branches and tags whose new commits start a run that ends before staging"
    )
    drafts: bool = Field(default=False, description="run for draft pull requests as well, not only when they are ready")
    forks: Literal["off", "approve"] = Field(
        default="off",
        description="pull requests from forks: `approve` lets an approver release each commit for its checks, which "
        "see no secrets and no caches",
    )
    poll_interval: v.Duration = Field(default=60.0, description="how often the repository is asked for new commits")

    image: v.Maybe[v.ImageName] = Field(default=None, description="the image in which the commands run")
    install: v.Maybe[v.Script] = Field(default=None, description="prepares the workspace (`prepare`)")
    code_quality: v.Maybe[v.Script] = Field(default=None, description="checks the code; not set: the stage is skipped")
    unit_test: v.Maybe[v.Script] = Field(default=None, description="tests the code; not set: the stage is skipped")
    junit: list[v.CheckoutPattern] = Field(default=[], description="JUnit XML files that `unit_test` writes")
    artifacts: dict[Literal["code_quality", "unit_test"], list[v.CheckoutPattern]] = Field(
        default={},
        description="files that these stages leave for people, kept as long as the log: `seamless artifacts`",
    )
    env: v.Sorted[v.EnvName, v.Text] = Field(
        default={}, description="variables of stages and deployed containers; names with `SEAMLESS_` are taken"
    )
    secrets: v.Sorted[v.EnvName, Secret] = Field(default={}, description="secret variables, by reference")
    user: v.Maybe[v.ContainerUser] = Field(default=None, description="who runs the commands; default: the image's user")
    caches: v.Distinct[v.ContainerPath] = Field(default=[], description="folders kept between runs")
    files: v.Sorted[v.ContainerPath, v.HostPath] = Field(
        default={}, description="files of the host that stages may read, such as a `settings.xml`"
    )
    limits: Limits = Field(default=Limits(), description="what one container may use")

    build: Build = Field(default=Build(), description="how the image is built")
    registry: v.Maybe[v.RegistryPrefix] = Field(
        default=None, description="images are pushed to `<registry>/<service>`; not set: they stay in the engine"
    )
    integration_test: IntegrationTest | None = Field(
        default=None, description="how the services are tested together; not set: the stage is skipped"
    )
    pull_request_stages: list[Literal["build", "integration_test"]] = Field(
        default=[], description="stages that pull requests run beyond the checks; never for forks"
    )

    use_staging: bool = Field(default=True, description="deploy to staging first")
    auto_deploy: bool = Field(default=False, description="deploy to production without an approval")
    auto_merge: v.Maybe[Literal["merge", "squash", "rebase"]] = Field(
        default=None, description="merge a pull request of GitHub in this way when its checks pass; not set: never"
    )
    port: v.Port | None = Field(default=None, description="the port that the container listens on")
    publish: v.Port | None = Field(
        default=None, description="the port of the host that leads to it; each container needs one of its own"
    )
    health: v.HealthPath = Field(default="", description="answers 2xx or 3xx when the service is well; empty: it runs")
    ecs: EcsSettings = Field(default=EcsSettings(), description="the service in an ECS cluster")
    environments: v.Sorted[v.EnvironmentName, ServiceEnvironment] = Field(
        default={}, description="what differs in `staging` or `production`"
    )

    stage_timeout: v.Duration = Field(default=1800.0, description="for one attempt of a stage")
    run_timeout: v.Duration = Field(default=7200.0, description="for a run, waiting for approval not counted")
    deploy_timeout: v.Duration = Field(
        default=600.0, description="for a deployment to become stable, its rollback not counted"
    )
    approval_timeout: v.Duration = Field(default=864000.0, description="for an approval; then the run is cancelled")
    max_attempts: Annotated[int, Ge(1), Le(10)] = Field(default=1, description="attempts of a stage that fails")
    max_interruptions: Annotated[int, Ge(1), Le(100)] = Field(
        default=3, description="interruptions of a stage before it is given up"
    )
    keep_images: Annotated[int, Ge(1), Le(10000)] = Field(
        default=10, description="images never collected, newest first"
    )
    keep_failed: v.DurationOrZero = Field(default=86400.0, description="how long a failed stage's workspace is kept")
    git: Git = Field(default=Git(), description="access to a private repository")

    @field_validator("integration_test", mode="before")
    @classmethod
    def _empty_compose_file_is_none(cls, value: Any) -> Any:
        return None if isinstance(value, dict) and value.get("compose_file") == "" else value

    @field_validator("pull_request_stages")
    @classmethod
    def _integration_needs_build(cls, stages: list[str]) -> list[str]:
        if "integration_test" in stages and "build" not in stages:
            raise ValueError("integration_test needs build as well")
        return stages

    def for_environment(self, environment: Environment) -> DeployParameters:
        """The service's values with those of `environments.<environment>` laid over them."""
        over = self.environments.get(environment, ServiceEnvironment())
        env, secrets = lay_over(self.env, self.secrets, over.env, over.secrets)
        return DeployParameters(
            env=env,
            secrets=secrets,
            port=self.port if over.port is None else over.port,
            publish=self.publish if over.publish is None else over.publish,
            health=self.health if over.health is None else over.health,
            limits=self.limits.model_copy(update=over.limits.model_dump(exclude_none=True)),
            ecs=self.ecs.model_copy(update=over.ecs.model_dump(exclude_none=True)),
            task_env=over.env,
            task_secrets=over.secrets,
        )


def lay_over(
    env: dict[str, E], secrets: dict[str, S], over_env: dict[str, E], over_secrets: dict[str, S]
) -> tuple[dict[str, E], dict[str, S]]:
    """Variables of two layers. A name is plain or secret as the upper layer has it."""
    return (
        {name: value for name, value in env.items() if name not in over_secrets} | over_env,
        {name: value for name, value in secrets.items() if name not in over_env} | over_secrets,
    )


class Registry(Table):
    """How to log in to an image registry."""

    username: v.Line = Field(description="user name")
    password: SecretRef = Field(description="password or token")


class Access(Table):
    """Who may do what, by user name of this host. Each list may do what the ones before it may."""

    operators: list[v.Line] = Field(default=[], description="run, cancel, rerun, roll back staging")
    approvers: list[v.Line] = Field(
        default=[], description="also approve, reject, release, promote, roll back production"
    )
    admins: list[v.Line] = Field(default=[], description="also configuration, environments, webhooks, gc, shell")


class Retention(Table):
    """How long things are kept. What runs, what a rollback would take, and what a hold or an approval means stays."""

    runs: v.Duration = Field(default=365 * 86400.0, description="runs with their history; the audit log stays")
    keep_runs: Annotated[int, Ge(1), Le(100000)] = Field(
        default=100, description="the newest runs of each service, however old"
    )
    logs: v.Duration = Field(default=90 * 86400.0, description="logs of runs that have ended")
    checkouts: v.Duration = Field(
        default=14 * 86400.0, description="checkouts that no run uses, mirrors that no service has"
    )
    caches: v.Duration = Field(default=30 * 86400.0, description="caches of services without a run")


class Agent(Table):
    """The daemon on the build host."""

    data_dir: v.HostPath = Field(
        default_factory=default_data_dir,
        description="database, logs, mirrors and caches; default: `~/.local/share/seamless`",
        validate_default=True,
    )
    socket: v.HostPath = Field(
        default_factory=default_socket,
        description="Unix socket of the API; default: `$XDG_RUNTIME_DIR/seamless/agent.sock`",
        validate_default=True,
    )
    max_parallel_runs: Annotated[int, Ge(1), Le(1000)] = Field(
        default=4, description="runs that execute a stage at a time"
    )
    ca_bundle: v.Maybe[v.HostPath] = Field(
        default=None, description="certificates that stages trust (mounted, and named by the usual variables)"
    )
    helper_image: v.MaybeImageName = Field(
        default="", description="image of the small helper containers; empty: made here"
    )
    log_cap: v.LogSize = Field(default=2**30, description="the most that is kept of a stage's log")
    min_free: v.SizeOrZero = Field(
        default=2**30, description='with less free on its disks the agent takes no new work; "0k" for no limit'
    )
    poll: bool = Field(default=True, description="ask repositories for new commits")
    webhooks: Webhooks | None = Field(default=None, description="take webhooks; not set: polling only")

    @property
    def login_token_file(self) -> Path:
        """Where `seamless login` stores GitHub's token when `github.token` names no other place."""
        return self.data_dir / "credentials" / "github-token"

    @field_validator("data_dir")
    @classmethod
    def _can_be_mounted(cls, path: v.HostPath) -> v.HostPath:
        if any(character in str(path) for character in ",:\\"):
            raise ValueError("must hold no comma, colon or backslash: overlay mounts cannot name such a path")
        return path

    @field_validator("socket")
    @classmethod
    def _fits_the_kernel(cls, path: v.HostPath) -> v.HostPath:
        if len(bytes(path)) > _SOCKET_PATH_MAX:
            raise ValueError(f"must be at most {_SOCKET_PATH_MAX} bytes long to be a socket's path")
        return path


def _both_environments(
    given: dict[Environment, EnvironmentSettings],
) -> dict[Environment, EnvironmentSettings]:
    return {environment: given.get(environment, EnvironmentSettings()) for environment in Environment}


class Document(Table):
    """The whole file, after `[pipeline]` was laid under every service."""

    agent: Agent = Field(default_factory=Agent, description="the daemon on the build host")
    registries: v.Sorted[v.RegistryHost, Registry] = Field(default={}, description="log-ins by host")
    github: GitHub = Field(default=GitHub(), description="how to reach GitHub")
    aws: Aws = Field(default=Aws(), description="how to reach AWS")
    environments: Annotated[dict[v.EnvironmentName, EnvironmentSettings], AfterValidator(_both_environments)] = Field(
        default={}, description="where `staging` and `production` are; not set: this host", validate_default=True
    )
    services: v.Sorted[v.ServiceName, Parameters] = Field(default={}, description="the services by name")
    notify: v.Sorted[v.Word, Notify] = Field(default={}, description="who is told what happens, by a name of yours")
    retention: Retention = Field(default=Retention(), description="how long things are kept")
    access: Access | None = Field(default=None, description="not set: whoever may open the socket may do all")
