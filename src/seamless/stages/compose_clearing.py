"""Takes down a Compose project by its name, which needs neither its file nor the agent that made it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from seamless.errors import EngineUnavailableError
from seamless.stages.engine_api import ask_engine

LABEL_PROJECT: Final = "com.docker.compose.project"
_FORCE: Final = {"force": "true", "v": "true"}


async def clear_project(project: str) -> None:
    """Removes whatever carries the project's name: containers, networks, volumes, images that Compose built.

    By the engine, not by `down`: it needs no Compose file, so that it is the same for a project whose agent
    died, and there is nothing in a test's container that deserves a grace period. Safe to repeat. Raises
    EngineUnavailableError.
    """
    mine = {"label": [f"{LABEL_PROJECT}={project}"]}
    built = {"reference": [f"{project}_*", f"{project}-*"]}  # 1.29 names an image project_service, 2 project-service
    await _remove("containers", [one["Id"] for one in await _found("containers/json", mine)])  # they use the rest
    networks, volumes, images = await asyncio.gather(
        _found("networks", mine), _found("volumes", mine), _found("images/json", built)
    )
    await asyncio.gather(
        _remove("networks", [one["Id"] for one in networks]),
        _remove("volumes", [one["Name"] for one in volumes["Volumes"] or ()]),
        _remove("images", [one["Id"] for one in images]),
    )


async def _found(kind: str, filters: Mapping[str, Sequence[str]]) -> Any:
    answer = await ask_engine("GET", f"/{kind}", params={"filters": json.dumps(filters), "all": "true"})
    if answer.status != HTTPStatus.OK:
        raise EngineUnavailableError(f"the Docker Engine does not list its {kind}: {answer.message}")
    return answer.body


async def _remove(kind: str, names: Iterable[str]) -> None:
    """What something else uses or removes just now stays: it carries the run's label, and goes later."""
    await asyncio.gather(*(ask_engine("DELETE", f"/{kind}/{name}", params=_FORCE) for name in names))
