"""What the housekeeper tells of what it could not remove, and what it leaves because somebody else needs it."""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from seamless.agent import housekeeping
from seamless.agent.housekeeping import Housekeeper
from seamless.agent.housekeeping.garbage import Garbage, Turn
from seamless.agent.housekeeping.images import images
from seamless.agent.resources import Resources
from seamless.config.loading import config_from
from seamless.errors import RefusedError, StageError, UnavailableError
from seamless.model import Actor, DigestKind, Environment, Image, ImageRef, utc_now
from seamless.targets import Release
from targets.scripted import ScriptedTarget

REGISTRY = "registry.example/web"
CONFIG = """
[services.web]
repo = "https://git.example/web"
[environments.production]
target = "ecs"
cluster = "production"
"""


def test_what_stays_for_the_same_reason_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An image that a container of somebody else uses, for example, stays as long as that runs."""
    why: list[str | None] = ["used by db"]

    async def remove() -> bool:
        if why[0] is not None:
            raise RefusedError(why[0])
        return False

    async def find(*_: Any) -> AsyncIterator[Garbage]:
        yield Garbage("image", "web@1", "older than the 2 that are kept", None, remove)

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(housekeeping, "_FINDERS", (find,))
    monkeypatch.setattr(housekeeping, "pack_logs", nothing)
    housekeeper = Housekeeper(cast(Resources, SimpleNamespace()))

    def turn(reason: str | None, *, dry_run: bool = False, actor: Actor | None = None) -> list[str]:
        why[0] = reason
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            kept = [one.kept for one in asyncio.run(housekeeper.collect(dry_run=dry_run, actor=actor))]
        assert actor is None or kept == [reason], "who asks is told each time"
        return [record.getMessage() for record in caplog.records]

    assert turn("used by db") == ["image web@1 could not be removed: used by db"]
    assert turn("used by db") == []
    turn(None, dry_run=True)
    assert turn("used by db", actor=Actor("ann", 1000)) == []
    assert turn("used by web") == ["image web@1 could not be removed: used by web"]
    assert turn(None) == []
    assert turn("used by web") == ["image web@1 could not be removed: used by web"]


def image(number: int, repository: str | None = REGISTRY) -> Image:
    kind = DigestKind.IMAGE_ID if repository is None else DigestKind.MANIFEST
    ref = ImageRef(f"sha256:{number:064}", kind, repository)
    return Image(number, "web", f"{number:040}", ref, f"tag{number}", f"web-{number}", "k", True, True, utc_now(), None)


def leaving(target: ScriptedTarget, *old: Image) -> tuple[list[str], list[str]]:
    """The names of what would go of these, and why the rest of what was named stays."""
    taken: list[Image] = []

    async def everything(*_: Any, **__: Any) -> list[Image]:
        return list(old)

    async def nothing() -> list[Image]:
        return []

    async def services() -> list[str]:
        return ["web"]

    async def take(together: list[Image], keep: int) -> bool:
        taken.extend(together)
        return False  # and nothing is removed

    retention = SimpleNamespace(
        leaving_images=nothing, image_services=services, old_images=everything, take_images=take
    )
    config = config_from(tomllib.loads(CONFIG), Path("/c.toml"))
    resources = cast(
        Resources,
        SimpleNamespace(store=SimpleNamespace(retention=retention), config=lambda: config, targets={"ecs": target}),
    )
    stays: list[str] = []

    async def collect() -> None:
        async for garbage in images(resources, Turn(utc_now(), pressed=False, asked=False)):
            try:
                await garbage.remove()
            except UnavailableError as error:
                stays.append(error.message)

    asyncio.run(collect())
    return [one.run for one in taken], stays


@pytest.mark.fake
def test_what_ecs_runs_stays_whoever_deployed_it() -> None:
    """ECS pulls an image again for each task that it starts."""
    target = ScriptedTarget()
    place = ("web", Environment.PRODUCTION)
    assert leaving(target, image(1), image(2)) == (["web-1", "web-2"], [])
    target.releases[place] = Release(image(1).ref, None, None, True, None)
    assert leaving(target, image(1), image(2)) == (["web-2"], [])
    target.releases[place] = Release(ImageRef("", DigestKind.MANIFEST, f"{REGISTRY}:tag2"), None, None, True, None)
    assert leaving(target, image(1), image(2)) == (["web-1"], []), "a task definition that names a tag only"


@pytest.mark.fake
def test_where_ecs_does_not_answer_nothing_goes_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    target = ScriptedTarget(unreachable=True)
    gone, stays = leaving(target, image(1), image(2, None))
    assert (gone, len(stays)) == (["web-2"], 1), "what is on this engine alone goes"

    async def no_service(*_: Any) -> None:
        raise StageError("there is no ECS service web in the cluster production")

    monkeypatch.setattr(target, "current", no_service)
    assert leaving(target, image(1)) == (["web-1"], []), "what is not there runs nothing"
