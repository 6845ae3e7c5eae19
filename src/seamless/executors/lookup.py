"""Questions to the engine that change nothing: what it is, and whether an image is there or could be pulled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from docker.auth import resolve_repository_name
from docker.errors import InvalidRepository

from seamless.executors.engine import Engine, EngineError
from seamless.executors.images import Credentials


@dataclass(frozen=True, slots=True)
class EngineFacts:
    version: str
    storage_driver: str
    folder: str
    warnings: tuple[str, ...]  # the engine's own


async def facts(engine: Engine) -> EngineFacts:
    """Raises as `Engine.ask`."""
    info: dict[str, Any] = await engine.ask(engine.api.info)
    return EngineFacts(
        str(info.get("ServerVersion", "")),
        str(info.get("Driver", "")),
        str(info.get("DockerRootDir", "")),
        tuple(str(warning) for warning in info.get("Warnings") or ()),
    )


async def is_here(engine: Engine, image: str) -> bool:
    try:
        await engine.ask(engine.api.inspect_image, image)
    except EngineError as error:
        if error.status == 404:
            return False
        raise
    return True


async def check_pullable(engine: Engine, image: str, credentials: Credentials) -> None:
    """Asks the image's registry, by way of the engine. Raises EngineError with the registry's words."""
    try:
        registry, _ = resolve_repository_name(image)
    except InvalidRepository as error:
        raise EngineError(f"invalid reference: {error}", 400) from error
    login = credentials(registry)
    auth = {"username": login[0], "password": login[1]} if login else None
    await engine.call(engine.api.inspect_distribution, image, auth)
