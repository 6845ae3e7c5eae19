"""Before a deployment: what is there, what would change, and whether it can work. Nothing is changed here.

Everything that can be known to fail is refused: no such cluster, service, container or image, an image for another
processor, a role, secret or subnet that is not there. What may not be looked at is said, and does not stop anybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from seamless.aws.errors import AwsDeniedError, AwsError
from seamless.errors import SeamlessError, StageError
from seamless.model import DigestKind, ImageRef, short
from seamless.targets import DeployRequest, Log
from seamless.targets.ecs_plan import (
    TAG_COMMIT,
    TAG_DEPLOYMENT,
    TAG_INSTALLATION,
    TAG_RUN,
    TAG_SERVICE,
    as_registered,
    changed,
    container_of,
    difference,
    image_of,
    own_container,
    short_name,
)
from seamless.targets.ecs_requirements import missing
from seamless.targets.ecs_service import EcsService
from seamless.targets.ecs_sight import primary_of
from seamless.targets.ecs_spec import Spec

Platforms = Callable[[ImageRef], Awaitable[Sequence[str] | None]]
"""What an image in a registry runs on, such as ["linux/amd64"]; None: the registry does not have it."""

_ARCHITECTURES: Final = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}  # of ECS, and of images


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a deployment begins with. JSON, since it is kept in the journal."""

    old_id: str  # of the PRIMARY deployment
    old_definition: str
    old_image: str
    container: str
    since: float  # the newest time that ECS itself names, before anything was done (a Unix time)
    parameters: dict[str, Any] | None  # of RegisterTaskDefinition; None: `reuse` is deployed as it is
    tags: dict[str, str]  # of the definition that `parameters` came from
    reuse: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prepared:
        return cls(**data)


def tags_for(request: DeployRequest, installation: str) -> dict[str, str]:
    """What a task definition says of the deployment that registered it."""
    return {
        TAG_INSTALLATION: installation,
        TAG_DEPLOYMENT: str(request.deployment),
        TAG_SERVICE: request.service,
        TAG_RUN: request.run,
        TAG_COMMIT: request.commit,
    }


class Preparing:
    """For one service. `platforms` asks the image's registry."""

    def __init__(self, ecs: EcsService, spec: Spec, installation: str, platforms: Platforms) -> None:
        self._ecs = ecs
        self._spec = spec
        self._platforms = platforms
        self.installation = installation

    async def prepare(self, request: DeployRequest, log: Log) -> Prepared:
        """Raises StageError with what is wrong and what to do, and what `Account.call` raises."""
        prepared, service, current, new = await self._planned(request)
        lines = difference(current, new)
        await log(f"service {self._spec.service} in the cluster {self._spec.cluster} runs {_names(current)}")
        for line in lines or ["the task definition stays as it is"]:
            await log(f"  {line}")
        if "taskDefinitionArn" in new:  # the recorded one of a rollback
            how = "is deployed again" if prepared.reuse else "is not active any more, and is registered again"
            await log(f"{_names(new)}, which this image was deployed with, {how}")
        await self._check_image(request.image, new)
        for remark in await missing(self._ecs.account, service, new, one_off=self._spec.before_deploy is not None):
            await log(remark)
        return prepared

    async def difference(self, request: DeployRequest) -> list[str]:
        """What the deployment would change in the task definition. Raises as `prepare`."""
        _, _, current, new = await self._planned(request)
        return difference(current, new)

    async def _planned(
        self, request: DeployRequest
    ) -> tuple[Prepared, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
        """The plan, the service, and the task definition before and after."""
        if request.image.kind is not DigestKind.MANIFEST:
            raise StageError(
                "the image is in this host's engine only, where ECS cannot pull it from",
                hint=f"set services.{request.service}.registry, or leave it out for ECR, and run it with --rebuild",
            )
        service = await self._ecs.describe()
        _refuse_unless_rolling(service)
        primary = primary_of(service)
        if primary is None:
            raise StageError(
                f"ECS names no primary deployment of the service {self._spec.service}", hint="look at it in the console"
            )
        current, tags = await self._ecs.definition(primary.definition)
        container = own_container(current, request.service, self._spec.container)
        old_image = str(container_of(current, container)["image"])
        reuse, new = await self._again(request, container)
        parameters = None
        if new is None:
            change = self._spec.change(container, request.image.pullable, service["clusterArn"])
            new = parameters = changed(current, change)
        elif reuse is None:
            parameters = as_registered(new)
        prepared = Prepared(
            old_id=primary.id,
            old_definition=primary.definition,
            old_image=old_image,
            container=container,
            since=_newest_time(service),
            parameters=parameters,
            tags=tags,
            reuse=reuse,
        )
        return prepared, service, current, new

    async def _again(self, request: DeployRequest, container: str) -> tuple[str | None, Mapping[str, Any] | None]:
        """A rollback's recorded definition: its ARN when it can be used as it is, and its content; else nothing."""
        recorded = request.recorded.get("task_definition")
        if recorded is None:
            return None, None
        try:
            definition, _ = await self._ecs.definition(recorded)
        except AwsError as error:
            if isinstance(error, AwsDeniedError):
                raise
            return None, None  # deleted: what runs now with the earlier image is what remains
        names = {each["name"] for each in definition["containerDefinitions"]}
        image = image_of(definition, container) if container in names else None
        if image is None or image.digest != request.image.digest:
            return None, None
        return (recorded if definition["status"] == "ACTIVE" else None), definition

    async def _check_image(self, image: ImageRef, definition: Mapping[str, Any]) -> None:
        platforms = await self._platforms(image)
        if platforms is None:
            raise StageError(f"the image {image.pullable} is not in its registry", hint="build it again with --rebuild")
        runtime = definition.get("runtimePlatform") or {}
        architecture = runtime.get("cpuArchitecture") or "X86_64"
        wanted = _ARCHITECTURES.get(architecture)
        if wanted is None or not str(runtime.get("operatingSystemFamily") or "LINUX").startswith("LINUX"):
            return
        if platforms and not any(each == wanted or each.startswith(f"{wanted}/") for each in platforms):
            raise StageError(
                f"the image is for {', '.join(platforms)}, and the task definition for {architecture}",
                hint=f'set build.platform = "{wanted}", or runtimePlatform in the task definition',
            )


def _refuse_unless_rolling(service: Mapping[str, Any]) -> None:
    """ECS tells the rollout state of rolling updates only, and not behind a Classic Load Balancer.

    docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html
    """
    name = service["serviceName"]
    controller = (service.get("deploymentController") or {}).get("type", "ECS")
    strategy = (service.get("deploymentConfiguration") or {}).get("strategy", "ROLLING")
    if (controller, strategy) != ("ECS", "ROLLING"):
        how = strategy if controller == "ECS" else controller
        raise StageError(
            f"the service {name} is deployed by {how}, and Seamless follows rolling updates only",
            hint="update the service with the deployment controller ECS and the strategy ROLLING",
        )
    if any(each.get("loadBalancerName") for each in service.get("loadBalancers") or []):
        raise StageError(
            f"the service {name} is behind a Classic Load Balancer, of which ECS does not tell how a deployment goes",
            hint="put it behind an Application or Network Load Balancer",
        )


async def who_made(ecs: EcsService, definition: str, installation: str) -> str:
    """ "deployed by payment-42", "registered by dana", or "" when ECS does not say."""
    try:
        found, tags = await ecs.definition(definition)
    except SeamlessError:
        return ""
    if tags.get(TAG_INSTALLATION) == installation and TAG_RUN in tags:
        return f"deployed by {tags[TAG_RUN]} ({short(tags.get(TAG_COMMIT, ''))})"
    principal = str(found.get("registeredBy") or "")
    return f"registered by {principal.partition(':')[2].rpartition(':')[2] or principal}" if principal else ""


def _names(definition: Mapping[str, Any]) -> str:
    return short_name(str(definition["taskDefinitionArn"]))


def _newest_time(service: Mapping[str, Any]) -> float:
    """Of all that ECS says happened: its clock is not ours."""
    times = [each["createdAt"] for each in service.get("events", [])]
    times += [each[key] for each in service["deployments"] for key in ("createdAt", "updatedAt") if each.get(key)]
    return max((time.timestamp() for time in times), default=0.0)
