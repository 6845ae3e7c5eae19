"""Deployments whose engine does not answer, or whose answers are lost on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seamless.errors import UnavailableError
from seamless.model import Environment
from seamless.targets import DeployOutcome
from seamless.targets import docker as docker_target
from seamless.targets.docker import DockerTarget
from seamless.transitions import DeploymentEvent

from .conftest import Images, Place
from .deploying import Lines, MemoryJournal, deploy_wholly, free_port, request, until
from .engine_proxy import LossyProxy

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_an_answer_lost_after_the_effect_changes_nothing(
    place: Place, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with LossyProxy(tmp_path / "engine.sock", lossy=True) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        target = DockerTarget(place.installation)

        async def main() -> list[DeployOutcome]:
            going = (request(1, images.v1), request(2, images.v2, publish=port), request(3, images.v1, publish=port))
            return [await deploy_wholly(target, each, MemoryJournal(), Lines()) for each in going]

        outcomes = asyncio.run(main())
    assert [outcome.event for outcome in outcomes] == [DeploymentEvent.COMPLETE] * 3
    assert {lost.split("?")[0].rsplit("/", 1)[-1] for lost in proxy.lost} >= {
        *("create", "start", "stop", "connect", "disconnect", "update")
    }
    assert place.names() == ["web-3"]
    assert place.networks() == [place.network]
    assert {restarts for _, _, restarts in place.ids().values()} == {0}


def test_a_deployment_whose_engine_goes_away_is_unknown_and_the_next_one_puts_it_right(
    place: Place, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_target, "DEPLOY_PATIENCE_S", 1.0)
    asyncio.run(place.target.deploy(request(1, images.v1), MemoryJournal(), Lines()))
    journal = MemoryJournal()
    with LossyProxy(tmp_path / "engine.sock") as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        target = DockerTarget(place.installation)

        async def main() -> DeployOutcome:
            task = asyncio.create_task(target.deploy(request(2, images.v2, env={"SLOW": "1000"}), journal, Lines()))
            await until(lambda: "verify" not in (journal.get("done") or ()) and "start" in (journal.get("done") or ()))
            proxy.close()
            return await task

        outcome = asyncio.run(main())
    assert (outcome.event, outcome.reason) == (DeploymentEvent.LOSE_SIGHT, "the Docker Engine does not answer")
    assert place.names() == ["web-1", "web-2"]
    next_one = asyncio.run(deploy_wholly(place.target, request(3, images.v2), MemoryJournal(), Lines()))
    assert next_one.event is DeploymentEvent.COMPLETE
    assert place.names() == ["web-3"]


def test_without_an_engine_nothing_is_changed_and_reading_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_target, "DEPLOY_PATIENCE_S", 0.2)
    monkeypatch.setattr(docker_target, "READ_PATIENCE_S", 0.2)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    target = DockerTarget("0a0b0c0d")

    async def main() -> None:
        going, journal = request(1, "sha256:" + "0" * 64), MemoryJournal()
        outcome = await target.deploy(going, journal, Lines())
        assert outcome == DeployOutcome(
            DeploymentEvent.FAIL, "the Docker Engine does not answer; nothing was changed", {}
        )
        assert await target.explain(going, journal) == ["the Docker Engine does not answer"]
        with pytest.raises(UnavailableError, match="does not answer"):
            await target.current("web", Environment.STAGING, {})

    asyncio.run(main())
