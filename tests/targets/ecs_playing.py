"""One deployment against the scripted ECS: what the tests of the ECS target share."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from harness.aws_server import serving
from harness.ecs_rows import Row
from harness.scripted_ecs import REGION, ScriptedEcs
from seamless.aws.sessions import Clouds
from seamless.config import Aws
from seamless.model import Deployment, DigestKind, Environment, ImageRef, Trigger, utc_now
from seamless.targets import DeployOutcome, DeployRequest
from seamless.targets.ecs import EcsTarget
from seamless.targets.ecs_spec import Timing
from seamless.transitions import DeploymentState

from .deploying import Lines, MemoryJournal, commit

INSTALLATION: Final = "0badcafe"
REPOSITORY: Final = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/web"
OLD_IMAGE: Final = f"{REPOSITORY}@sha256:{'0' * 64}"
DEFINITION: Final[dict[str, Any]] = {
    "family": "web",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "256",
    "memory": "512",
    "executionRoleArn": "arn:aws:iam::123456789012:role/seamless/web-execution",
    "containerDefinitions": [
        {
            "name": "app",
            "image": OLD_IMAGE,
            "essential": True,
            "environment": [{"name": "LOG_LEVEL", "value": "debug"}],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {"awslogs-group": "/seamless/web", "awslogs-region": REGION, "awslogs-stream-prefix": "web"},
            },
        },
        {"name": "proxy", "image": "envoy:1.30", "essential": True},
    ],
}


def new_ecs(*scripts: Sequence[Row], **settings: Any) -> ScriptedEcs:
    """The scripted ECS; each script is of one UpdateService, in order."""
    ecs = ScriptedEcs(DEFINITION, **settings)
    ecs.scripts = list(scripts)
    return ecs


def image(deployment: int) -> ImageRef:
    return ImageRef(f"sha256:{deployment:064d}", DigestKind.MANIFEST, REPOSITORY)


def settings(endpoint: str, **changes: Any) -> dict[str, Any]:
    """As `agent.environments.settings_of` makes them."""
    ecs = {"service": "web", "container": "app", "before_deploy": None, "before_deploy_timeout": None}
    ecs |= {key: changes.pop(key) for key in list(changes) if key in ecs}
    access = Aws(region=REGION, endpoint_url=endpoint).model_dump()
    return {"target": "ecs", "cluster": "prod", **access, "ecs": ecs, "task_env": {}, "task_secrets": {}, **changes}


@dataclass
class ScriptedTiming(Timing):
    """The scripted clock; each pause moves it by `step_s`."""

    ecs: ScriptedEcs
    step_s: float = 5.0
    pauses: int = field(default=0)

    def read(self) -> dict[str, Any]:
        return {"at_s": self.ecs.now}

    def elapsed_s(self, since: Mapping[str, Any] | None) -> float | None:
        return None if since is None else self.ecs.now - float(since["at_s"])

    async def pause(self, cancel: asyncio.Event | None = None) -> None:
        with self.ecs.lock:
            self.ecs.now += self.step_s
        self.pauses += 1
        await asyncio.sleep(0)


@dataclass
class Player:
    """An agent's part: target, journal and log of deployments, against one far end."""

    ecs: ScriptedEcs
    endpoint: str
    clouds: Clouds
    timing: ScriptedTiming
    platforms: Sequence[str] | None = ("linux/amd64",)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    lines: Lines = field(default_factory=Lines)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def target(self) -> EcsTarget:
        async def platforms(_: ImageRef) -> Sequence[str] | None:
            return self.platforms

        return EcsTarget(INSTALLATION, self.clouds.account, platforms, self.timing)

    def request(self, deployment: int = 1, **changes: Any) -> DeployRequest:
        own = {key: changes.pop(key) for key in ("deadline_s", "recorded", "image", "commit") if key in changes}
        return DeployRequest(
            deployment=deployment,
            run=f"web-{deployment}",
            service="web",
            environment=Environment.PRODUCTION,
            commit=own.pop("commit", commit(deployment)),
            image=own.pop("image", image(deployment)),
            settings=settings(self.endpoint, **changes),
            port=None,
            publish=None,
            health="",
            cancel=self.cancel,
            **{"deadline_s": 600.0, **own},
        )

    def deploy(self, deployment: int = 1, **changes: Any) -> DeployOutcome:
        """One deployment to its verdict, with this player's journal."""
        return asyncio.run(self.target.deploy(self.request(deployment, **changes), self.journal, self.lines))

    def renew(self, ecs: ScriptedEcs) -> None:
        """Another far end at the same address, as it was at the beginning."""
        self.ecs = self.timing.ecs = ecs
        self.again()

    def again(self) -> None:
        """The next call is of another deployment."""
        self.journal, self.lines = MemoryJournal(), Lines()

    @property
    def said(self) -> str:
        return "\n".join(self.lines.lines)


@functools.cache
def _player() -> Player:
    """One address and one set of clients for all tests of a process: clients are dear to make."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    clouds = Clouds()
    stack.callback(clouds.close)
    ecs = new_ecs()
    player = Player(ecs, "", clouds, ScriptedTiming(ecs))
    player.endpoint = stack.enter_context(serving(lambda: player.ecs))
    return player


@contextmanager
def playing(ecs: ScriptedEcs, monkeypatch: Any, *, step_s: float = 5.0) -> Iterator[Player]:
    """A player, with credentials that only the far end of the test would take."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIATESTING",
        "AWS_SECRET_ACCESS_KEY": "of-a-test",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    player = _player()
    player.renew(ecs)
    player.timing.step_s, player.platforms, player.cancel = step_s, ("linux/amd64",), asyncio.Event()
    yield player


def recorded(player: Player) -> Deployment:
    """A deployment that was lost sight of, as the store has it."""
    request = player.request()
    return Deployment(
        id=1, service="web", environment=Environment.PRODUCTION, run="web-1", trigger=Trigger.MAIN,
        commit=request.commit, image=request.image, state=DeploymentState.UNKNOWN, reason=None, created_at=utc_now(),
        ended_at=None, journal=player.journal.entries,
        detail=(player.journal.get("outcome") or {}).get("detail", {}),
    )  # fmt: skip
