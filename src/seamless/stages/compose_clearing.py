"""Takes down a Compose project by its name, which needs neither its file nor the agent that made it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from seamless.stages.compose_containers import LABEL_PROJECT
from seamless.stages.engine_api import ask_engine, find_objects

_FORCE: Final = {"force": "true", "v": "true"}


async def clear_project(project: str) -> None:
    """Removes whatever carries the project's name: containers, networks, volumes, images that Compose built.

    By the engine, not by `down`: it needs no Compose file, so that it is the same for a project whose agent
    died, and there is nothing in a test's container that deserves a grace period. Safe to repeat. Raises
    EngineUnavailableError.
    """
    mine = {"label": [f"{LABEL_PROJECT}={project}"]}
    built = {"reference": [f"{project}_*", f"{project}-*"]}  # 1.29 names an image project_service, 2 project-service
    await _remove("containers", [one["Id"] for one in await find_objects("containers/json", mine)])  # they use the rest
    networks, volumes, images = await asyncio.gather(
        find_objects("networks", mine), find_objects("volumes", mine), find_objects("images/json", built)
    )
    await asyncio.gather(
        _remove("networks", [one["Id"] for one in networks]),
        _remove("volumes", [one["Name"] for one in volumes["Volumes"] or ()]),
        _remove("images", [one["Id"] for one in images]),
    )


async def _remove(kind: str, names: Iterable[str]) -> None:
    """What something else uses or removes just now stays: it carries the run's label, and goes later."""
    await asyncio.gather(*(ask_engine("DELETE", f"/{kind}/{name}", params=_FORCE) for name in names))
