"""The Docker target: services on the agent's own engine, one bridge network for each environment.

There, a service is reached by its name, as with ECS Service Connect. How a deployment goes is decided in
`docker_plan` and carried out by `docker_rollout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from seamless.errors import SeamlessError
from seamless.model import Deployment, DigestKind, Environment, ImageRef
from seamless.targets import DeployOutcome, DeployRequest, Journal, Log, Release
from seamless.targets.docker_engine import Engine
from seamless.targets.docker_plan import (
    LABEL_COMMIT,
    Check,
    network_labels,
    network_name,
    registry_of,
    release,
    service_labels,
)
from seamless.targets.docker_rollout import STOP_GRACE_S, Rollout, address, remove_old
from seamless.targets.health import ask_once
from seamless.transitions import DeploymentEvent

DEPLOY_PATIENCE_S: Final = 30.0
READ_PATIENCE_S: Final = 3.0
_HEALTH_TIMEOUT_S: Final = 2.0

Auth = Callable[[str], tuple[str, str] | None]


class DockerTarget:
    """A `Target`. `auth` gives (user name, password) for a registry's host, or None.

    All methods may be called at once for different services; `current` and `has_image` at any time.
    """

    def __init__(self, installation: str, auth: Auth | None = None) -> None:
        self._auth = auth
        self._engine = Engine(installation, patience_s=DEPLOY_PATIENCE_S)
        self._reader = Engine(installation, patience_s=READ_PATIENCE_S)
        self._installation = installation

    async def current(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> Release | None:
        """What was deployed last with success, and whether it answers now. None: nothing."""
        found = release(await self._reader.find(service_labels(self._installation, service, environment)))
        if found is None:
            return None
        publish = Check.of(found).publish
        return Release(
            image=found.image,
            commit=found.labels.get(LABEL_COMMIT),
            deployment=found.deployment,
            healthy=await ask_once(found, _HEALTH_TIMEOUT_S),
            since=found.started_at,
            address=address(publish) if publish is not None else None,
        )

    async def has_image(self, image: ImageRef) -> bool:
        """Whether the engine has it or its registry answers that it does."""
        if await self._reader.has_image(image):
            return True
        return image.kind is DigestKind.MANIFEST and await self._reader.registry_has(image, self._credentials(image))

    async def deploy(self, request: DeployRequest, journal: Journal, log: Log) -> DeployOutcome:
        """See `Target`. Cancelling the task leaves everything as it is, to be gone on with."""
        return await Rollout(self._engine, request, journal, log, self._credentials(request.image)).run()

    async def retire(self, journal: Journal) -> None:
        """See `Target`."""
        await remove_old(self._engine, journal)

    async def explain(self, request: DeployRequest, journal: Journal) -> list[str]:
        """What was seen when it failed, else how its container is now."""
        if failure := journal.get("failure"):
            return list(failure["explanation"])

        async def discard(line: str) -> None: ...

        try:
            return await Rollout(self._reader, request, journal, discard, None).explain()
        except SeamlessError as error:
            return [error.message]

    async def difference(self, request: DeployRequest) -> list[str]:
        """Nothing: a container is made of the configuration alone."""
        return []

    async def drift(self, current: Sequence[tuple[Deployment, Mapping[str, Any]]]) -> list[str | None]:
        """Not looked for: nobody else deploys to this host's engine under our label."""
        return [None for _ in current]

    async def reconcile(self, deployment: Deployment, settings: Mapping[str, Any]) -> DeployOutcome:
        """It arrived when the container that it was to start runs and is well."""
        release = await self.current(deployment.service, deployment.environment, settings)
        arrived = release is not None and release.deployment == deployment.id and release.healthy
        return DeployOutcome(DeploymentEvent.COMPLETE if arrived else DeploymentEvent.FAIL)

    async def remove(self, service: str, environment: Environment, settings: Mapping[str, Any]) -> None:
        """Stops and removes the service's containers, and the environment's network after the last one."""
        for container in await self._engine.find(service_labels(self._installation, service, environment)):
            await self._engine.remove(container.id, grace_s=STOP_GRACE_S)
        await self._engine.remove_network(
            network_name(self._installation, environment), network_labels(self._installation, environment)
        )

    def _credentials(self, image: ImageRef) -> Mapping[str, str] | None:
        if self._auth is None or image.repository is None:
            return None
        found = self._auth(registry_of(image.repository))
        return None if found is None else {"username": found[0], "password": found[1]}
