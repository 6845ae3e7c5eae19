"""The ECS target: services in a cluster of ECS, each with its task definition there.

How a deployment goes: `ecs_preparing` (what is there, what would change, whether it can work), `ecs_before`,
`ecs_rollout` (one UpdateService, followed to the truth), `ecs_back` (the way back). What one look tells is decided in
`ecs_sight`, what a task definition becomes in `ecs_plan`; both are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from seamless.aws.cluster import active_services
from seamless.aws.errors import AwsError
from seamless.aws.sessions import Account
from seamless.config import Aws
from seamless.errors import SeamlessError, UnavailableError
from seamless.model import Deployment, DigestKind, Environment, ImageRef
from seamless.targets import DeployOutcome, DeployRequest, Journal, Log, Release
from seamless.targets.ecs_plan import (
    TAG_COMMIT,
    TAG_DEPLOYMENT,
    TAG_INSTALLATION,
    container_of,
    image_of,
    own_container,
    short_name,
)
from seamless.targets.ecs_preparing import Platforms, Preparing, who_made
from seamless.targets.ecs_rollout import EcsRollout
from seamless.targets.ecs_service import EcsService, cluster_error
from seamless.targets.ecs_sight import Ours, State, look, primary_of
from seamless.targets.ecs_spec import Spec, Timing
from seamless.targets.ecs_trail import who_updated
from seamless.transitions import DeploymentEvent

_NOTHING_SENT = "it was lost sight of before the service was updated"


class EcsTarget:
    """A `Target`. All methods may be called at once for different services; those that read at any time."""

    def __init__(
        self,
        installation: str,
        account: Callable[[Aws], Account],
        platforms: Platforms,
        timing: Timing | None = None,
    ) -> None:
        self._installation = installation
        self._account = account
        self._platforms = platforms
        self._timing = timing or Timing()

    async def current(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> Release | None:
        """What the service's primary deployment runs. None: its container names no digest, so nobody deployed it."""
        spec = Spec.of(settings, service)
        ecs = self._ecs(spec)
        found = await ecs.describe()
        primary = primary_of(found)
        if primary is None:
            raise UnavailableError(f"ECS names no primary deployment of {spec.service}")
        definition, tags = await ecs.definition(primary.definition)
        container = own_container(definition, service, spec.container)
        ours = tags.get(TAG_INSTALLATION) == self._installation
        image = image_of(definition, container)
        return Release(
            image=image or _tagged(str(container_of(definition, container)["image"])),
            commit=tags.get(TAG_COMMIT) if ours else None,
            deployment=int(tags[TAG_DEPLOYMENT]) if ours and TAG_DEPLOYMENT in tags else None,
            healthy=primary.stable,
            since=_since(found, primary.id),
        )

    async def drift(self, current: Sequence[tuple[Deployment, Mapping[str, Any]]]) -> list[str | None]:
        """What the services run instead; by whom, as its task definition says, else CloudTrail."""
        wanted = [(deployment, Spec.of(settings, deployment.service)) for deployment, settings in current]
        if not wanted:
            return []
        place = wanted[0][1]
        names = [spec.service for _, spec in wanted]
        try:
            services = active_services(self._account(place.access), place.cluster, names)
            found = {service["serviceName"]: service async for service in services}
        except AwsError as error:
            raise await cluster_error(self._account(place.access), place.cluster, error) from error
        return [await self._drift(deployment, spec, found.get(spec.service)) for deployment, spec in wanted]

    async def _drift(self, deployment: Deployment, spec: Spec, service: Mapping[str, Any] | None) -> str | None:
        recorded = deployment.detail.get("task_definition")
        primary = None if service is None else primary_of(service)
        if recorded is None or (primary is not None and primary.definition == recorded):
            return None
        deployed = f"{deployment.run} deployed {short_name(recorded)}"
        if primary is None:
            return f"has no service {spec.service} in the cluster {spec.cluster} any more, and {deployed}"
        made = await who_made(self._ecs(spec), primary.definition, self._installation)
        told = f"runs {short_name(primary.definition)}{f' {made}' if made else ''}, and {deployed}"
        if made.startswith("registered by"):
            return told
        who = await who_updated(self._account(spec.access), spec.cluster, spec.service)
        return told if who is None else f"{told}; {who} updated the service"

    async def has_image(self, image: ImageRef) -> bool:
        """Whether its registry has it: ECS cannot pull from this host's engine."""
        return image.kind is DigestKind.MANIFEST and await self._platforms(image) is not None

    async def difference(self, request: DeployRequest) -> list[str]:
        """What a deployment would change in the task definition."""
        return await self._preparing(request).difference(request)

    async def deploy(self, request: DeployRequest, journal: Journal, log: Log) -> DeployOutcome:
        """See `Target`. Cancelling the task leaves everything as it is, to be gone on with."""
        return await self._rollout(request, journal, log).run()

    async def retire(self, journal: Journal) -> None:
        """ECS drains and stops the old tasks by itself, before a deployment counts as complete."""

    async def explain(self, request: DeployRequest, journal: Journal) -> list[str]:
        """What was seen when it failed, else what ECS says of it now."""
        if recorded := journal.get("outcome"):
            return list(recorded["detail"].get("explanation", []))
        if failure := journal.get("failure"):
            return list(failure["explanation"])
        try:
            return await self._rollout(request, journal, _discard).explain()
        except SeamlessError as error:
            return [error.message]

    async def reconcile(self, deployment: Deployment, settings: Mapping[str, Any]) -> DeployOutcome:
        """What became of a deployment that was lost sight of. One that still goes on is about to be superseded."""
        journal = deployment.journal
        definition = journal.get("definition")
        if definition is None or journal.get("submitting") is None:
            return DeployOutcome(DeploymentEvent.FAIL, _NOTHING_SENT)
        spec = Spec.of(settings, deployment.service)
        ecs = self._ecs(spec)
        plan = journal["plan"]
        ours = Ours(
            (journal.get("ours") or {}).get("id", ""), definition, str(plan["old_id"]), str(plan["old_definition"])
        )
        found = await ecs.describe()
        primary = primary_of(found)
        if not ours.id and primary is not None and primary.definition == definition:
            ours = Ours(primary.id, definition, ours.old_id, ours.old_definition)
        sight = look(found, ours, seen=True)
        name = short_name(definition)
        match None if sight is None else sight.state:
            case State.COMPLETED:
                return DeployOutcome(DeploymentEvent.COMPLETE, f"{name} runs", {"task_definition": definition})
            case State.ROLLED_BACK | State.ROLLING_BACK:
                assert sight is not None
                return DeployOutcome(DeploymentEvent.ROLL_BACK, f"ECS runs {short_name(sight.primary.definition)}")
            case State.FAILED:
                return DeployOutcome(DeploymentEvent.FAIL, "ECS gave the deployment up")
            case State.GOING | State.UNSEEN:
                return DeployOutcome(DeploymentEvent.SUPERSEDE, "it was still going on")
            case State.SUPERSEDED:
                assert sight is not None
                return DeployOutcome(DeploymentEvent.SUPERSEDE, f"ECS runs {short_name(sight.primary.definition)}")
            case _:
                raise UnavailableError(f"ECS names no primary deployment of {spec.service}")

    async def remove(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> None:
        """Nothing: services of ECS belong to whoever made them (`seamless env down`)."""

    def _ecs(self, spec: Spec) -> EcsService:
        return EcsService(self._account(spec.access), spec.cluster, spec.service)

    def _preparing(self, request: DeployRequest) -> Preparing:
        spec = Spec.of(request.settings, request.service)
        return Preparing(self._ecs(spec), spec, self._installation, self._platforms)

    def _rollout(self, request: DeployRequest, journal: Journal, log: Log) -> EcsRollout:
        spec = Spec.of(request.settings, request.service)
        ecs = self._ecs(spec)
        preparing = Preparing(ecs, spec, self._installation, self._platforms)
        return EcsRollout(ecs, spec, request, journal, log, self._timing, preparing)


def _since(service: Mapping[str, Any], deployment: str) -> datetime | None:
    times = [each.get("createdAt") for each in service["deployments"] if each["id"] == deployment]
    return times[0] if times and isinstance(times[0], datetime) else None


def _tagged(image: str) -> ImageRef:
    """An image that is named by a tag only: which one it is, nobody knows."""
    return ImageRef("", DigestKind.MANIFEST, image)


async def _discard(line: str) -> None: ...
