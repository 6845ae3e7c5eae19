"""The containers of a Compose project, as the engine has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from seamless.errors import InterruptedStageError, StageError, UnavailableError
from seamless.stages.compose_values import listed
from seamless.stages.engine_api import Answer, ask_engine, find_objects

LABEL_PROJECT: Final = "com.docker.compose.project"
_LABEL_SERVICE: Final = "com.docker.compose.service"
_LABEL_NETWORK: Final = "com.docker.compose.network"


@dataclass(frozen=True, slots=True)
class ProjectContainer:
    """What the engine says of one container of a project."""

    id: str
    service: str
    networks: frozenset[str]  # their names on the engine
    status: str  # "created", "running", "exited", …
    exit_code: int
    out_of_memory: bool
    error: str
    health: str | None  # "starting", "healthy", "unhealthy"; None: it has no health check
    probe: str  # what its last health check printed

    @property
    def ended(self) -> bool:
        return self.status in ("exited", "dead")


async def find_containers(project: str) -> list[ProjectContainer]:
    """All of them, running or not. Raises InterruptedStageError when the engine does not tell."""
    with _interrupted_without_engine():
        listing = await find_objects("containers/json", {"label": [f"{LABEL_PROJECT}={project}"]})
        answers = await asyncio.gather(*(ask_engine("GET", f"/containers/{one['Id']}/json") for one in listing))
    return [_read(answer.body) for answer in answers if answer.status == HTTPStatus.OK]  # the others have gone


async def join_networks(
    project: str, container: ProjectContainer, attachments: Mapping[str, Mapping[str, Any] | None]
) -> None:
    """Connects a container that was created and not started to those of its networks that it is not in yet.

    Compose 1.29 creates it in one network and connects it to the others when it starts it, which `up --no-start` leaves
    out. `attachments` are the service's `networks`. Raises StageError, and InterruptedStageError when the engine
    went away.
    """
    if len(container.networks) >= len(attachments):
        return
    with _interrupted_without_engine():
        networks = await find_objects("networks", {"label": [f"{LABEL_PROJECT}={project}"]})
        for network in networks:
            name = network["Labels"][_LABEL_NETWORK]
            if name in attachments and network["Name"] not in container.networks:
                aliases = [container.service, *listed((attachments[name] or {}).get("aliases"))]
                body = {"Container": container.id, "EndpointConfig": {"Aliases": aliases}}
                _require_ok(await ask_engine("POST", f"/networks/{network['Id']}/connect", body=body), name)


@contextmanager
def _interrupted_without_engine() -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        raise InterruptedStageError(f"the engine went away: {error.message}") from error


def _require_ok(answer: Answer, network: str) -> None:
    if answer.status != HTTPStatus.OK:
        raise StageError(f"the tests could not be connected to the network {network}: {answer.message}")


def _read(inspected: Mapping[str, Any]) -> ProjectContainer:
    state = inspected["State"]
    health = state.get("Health") or {}
    probes = listed(health.get("Log"))
    return ProjectContainer(
        id=inspected["Id"],
        service=(inspected["Config"].get("Labels") or {}).get(_LABEL_SERVICE, ""),
        networks=frozenset(inspected["NetworkSettings"]["Networks"] or ()),
        status=state["Status"],
        exit_code=state["ExitCode"],
        out_of_memory=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        health=health.get("Status") if health.get("Status") != "none" else None,
        probe=probes[-1].get("Output", "") if probes else "",
    )
