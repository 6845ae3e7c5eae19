"""What one deployment to ECS is asked to do, out of the request's settings; and the time that it goes by."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seamless.aws.places import value_from
from seamless.config import Aws, Secret
from seamless.targets import stopwatch
from seamless.targets.ecs_plan import Change
from seamless.targets.ecs_service import Arn


@dataclass(frozen=True, slots=True)
class Spec:
    """One service in one cluster. Made of `DeployRequest.settings`: `agent.settings_of` writes what this reads."""

    access: Aws
    cluster: str
    service: str
    container: str | None
    before_deploy: str | None
    before_deploy_s: float | None
    env: Mapping[str, str]
    secrets: Mapping[str, Secret]

    @classmethod
    def of(cls, settings: Mapping[str, Any], name: str) -> Spec:
        """`name`: the service's own, which is its name in ECS unless `ecs.service` gives another."""
        ecs = settings["ecs"]
        return cls(
            access=Aws.model_validate({key: settings[key] for key in Aws.model_fields}),
            cluster=settings["cluster"],
            service=ecs["service"] or name,
            container=ecs["container"],
            before_deploy=ecs["before_deploy"],
            before_deploy_s=ecs["before_deploy_timeout"],
            env=dict(settings["task_env"]),
            secrets={key: Secret.model_validate(each) for key, each in settings["task_secrets"].items()},
        )

    def change(self, container: str, image: str, cluster_arn: str) -> Change:
        """Raises ConfigError when a secret is one that no task can read."""
        where = Arn.of(cluster_arn)
        secrets = {
            key: value_from(each, partition=where.partition, region=where.region, account=where.account)
            for key, each in self.secrets.items()
        }
        return Change(container=container, image=image, env=self.env, secrets=secrets)


class Timing:
    """How long things take: the wall's time here, a scripted one in tests."""

    poll_s: float = 2.0
    visible_s: float = 30.0  # in which a change must show up in what ECS answers; it is eventually consistent

    def read(self) -> dict[str, Any]:
        return stopwatch.read()

    def elapsed_s(self, since: Mapping[str, Any] | None) -> float | None:
        return stopwatch.elapsed_s(since)

    async def pause(self, cancel: asyncio.Event | None = None) -> None:
        """Until it is time to look again, or somebody cancels."""
        seconds = self.poll_s * random.uniform(0.8, 1.2)
        if cancel is None or cancel.is_set():
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait_for(cancel.wait(), seconds)
        except TimeoutError:
            return
