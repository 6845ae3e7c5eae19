"""What the Deployer does about a deployment that was lost sight of: the next one finds out first what became of it.

The Deployer, the store and the target are real; ECS is scripted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.storing import new_run, with_store
from harness.ecs_rows import HEALTHY, Row
from harness.scripted_ecs import REGION
from seamless.agent.deploying import Deployer
from seamless.agent.resources import Resources
from seamless.agent.store import Store
from seamless.agent.verdicts import StopSwitch, Verdict
from seamless.config import config_from
from seamless.model import Deployment, Environment
from seamless.stages import StageContext
from seamless.transitions import DeploymentState, StageEvent

from .ecs_playing import Player, image, new_ecs, playing

pytestmark = pytest.mark.fake

PRODUCTION = Environment.PRODUCTION
LOST_FOR = 100  # seconds of the scripted clock between two looks, so that a deadline passes in a few


class Deploying:
    """Deployments of one service, one after the other."""

    def __init__(self, store: Store, player: Player) -> None:
        self.store = store
        self.player = player
        own = {"repo": "https://git.example/web", "use_staging": False, "ecs": {"container": "app"}}
        ecs = {"target": "ecs", "cluster": "prod", "region": REGION, "endpoint_url": player.endpoint}
        self._config = config_from({"environments": {"production": ecs}, "services": {"web": own}}, Path("/x.toml"))
        self.lines: list[str] = []

    async def deploy(self, on_line: Callable[[str], None] = lambda _: None) -> tuple[Verdict, Deployment]:
        """The verdict on the next run's deployment, and the deployment as it is stored then."""

        async def line(text: str) -> None:
            self.lines.append(text)
            on_line(text)

        run = await self.store.runs.create(new_run())
        built = await self.store.images.add(
            service="web", commit=run.commit, ref=image(run.number), tag="t", run=run.id, build_key="k", trusted=True
        )
        made = await self.store.deployments.record(run, PRODUCTION, built)
        resources = SimpleNamespace(config=lambda: self._config, store=self.store, targets={"ecs": self.player.target})
        context: Any = SimpleNamespace(
            run=run, parameters=self._config.services["web"], secrets={}, line=line, redact=lambda value: value
        )
        verdict = await Deployer(cast(Resources, resources)).deploy(
            cast(StageContext, context), PRODUCTION, StopSwitch()
        )
        assert verdict.also is not None
        await verdict.also()
        return verdict, await self.store.deployments.get(made.id)

    def go_blind(self, line: str) -> None:
        """From the UpdateService on nothing of ECS can be read."""
        if line.startswith("ECS deployment"):
            self.player.ecs.faults["DescribeServices"] = ["denied"] * 999

    def see_again(self) -> None:
        self.player.ecs.faults.clear()


def play(tmp_path: Path, player: Player, body: Callable[[Deploying], Awaitable[None]]) -> None:
    with_store(tmp_path / "seamless.db", lambda store: body(Deploying(store, player)))


def test_the_next_deployment_finds_out_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(deploying: Deploying) -> None:
        verdict, lost = await deploying.deploy(deploying.go_blind)
        assert (verdict.event, lost.state) == (StageEvent.FAIL, DeploymentState.UNKNOWN)
        assert "not allowed to call ecs:DescribeServices" in str(verdict.reason)
        deploying.see_again()
        verdict, second = await deploying.deploy()
        assert (verdict.event, second.state) == (StageEvent.SUCCEED, DeploymentState.SUCCESS)
        lost = await deploying.store.deployments.get(lost.id)
        assert (lost.state, lost.reason) == (DeploymentState.SUCCESS, "web:2 runs; found by deployment 2 of web-2")
        assert lost.detail["task_definition"].endswith("web:2")

    with playing(new_ecs(HEALTHY, HEALTHY), monkeypatch, step_s=LOST_FOR) as player:
        play(tmp_path, player, body)
        assert [each["taskDefinition"][-5:] for each in player.ecs.calls("UpdateService")] == ["web:2", "web:3"]


@pytest.mark.parametrize(
    ("script", "state", "reason"),
    [
        ([Row(0, "going"), Row(50, "rollback"), Row(60, "rolled_back")], DeploymentState.ROLLED_BACK, "ECS runs web:1"),
        ([Row(0, "going"), Row(50, "failed")], DeploymentState.FAILURE, "ECS gave the deployment up"),
        ([Row(0, "going"), Row(50, "outside")], DeploymentState.SUPERSEDED, "ECS runs web:3"),
        ([Row(0, "going")], DeploymentState.SUPERSEDED, "it was still going on"),
    ],
)
def test_what_it_finds_is_what_became_of_it(
    script: list[Row], state: DeploymentState, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(deploying: Deploying) -> None:
        _, lost = await deploying.deploy(deploying.go_blind)
        assert lost.state is DeploymentState.UNKNOWN
        deploying.see_again()
        verdict, _ = await deploying.deploy()
        assert verdict.event is StageEvent.SUCCEED, verdict.reason
        lost = await deploying.store.deployments.get(lost.id)
        assert (lost.state, lost.reason) == (state, f"{reason}; found by deployment 2 of web-2")

    with playing(new_ecs(script), monkeypatch, step_s=LOST_FOR) as player:
        play(tmp_path, player, body)


def test_while_it_cannot_find_out_nothing_is_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(deploying: Deploying) -> None:
        _, lost = await deploying.deploy(deploying.go_blind)
        verdict, second = await deploying.deploy()
        assert (verdict.event, second.state) == (StageEvent.FAIL, DeploymentState.FAILURE)
        assert "not allowed to call ecs:DescribeServices" in str(verdict.reason)
        assert (await deploying.store.deployments.get(lost.id)).state is DeploymentState.UNKNOWN
        deploying.see_again()
        _, third = await deploying.deploy()
        assert third.state is DeploymentState.SUCCESS

    with playing(new_ecs(HEALTHY), monkeypatch, step_s=LOST_FOR) as player:
        play(tmp_path, player, body)
        assert len(player.ecs.calls("UpdateService")) == 2
