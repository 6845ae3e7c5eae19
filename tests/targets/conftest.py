"""The engine, and the scripted ECS, as the tests of the targets use them."""

from __future__ import annotations

import contextlib
import gc
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from harness.ecs_rows import HEALTHY
from seamless.targets.docker import DockerTarget

from .deploying import build
from .ecs_playing import Player, new_ecs, playing


@dataclass(frozen=True)
class Images:
    """Ids of images of one service, in several versions."""

    v1: str
    v2: str
    checked: str  # with a HEALTHCHECK of its own


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    check = "HEALTHCHECK --interval=1s --timeout=2s --retries=1 CMD wget -q -O /dev/null http://127.0.0.1:8080/healthz"
    built = Images(build("v1"), build("v2"), build("v3", check))
    yield built
    api = docker.from_env().api
    for image in (built.v1, built.v2, built.checked):
        api.remove_image(image, force=True)


class Place:
    """One installation's own corner of the engine; removed with all that is in it."""

    def __init__(self) -> None:
        self.installation = secrets.token_hex(4)
        self.target = DockerTarget(self.installation)
        self.api: Any = docker.from_env().api
        self.network = f"seamless-{self.installation}-staging"

    def names(self, *, running: bool = False) -> list[str]:
        """Names of all containers, or of those that run, without what they begin with."""
        found = self.api.containers(all=not running, filters={"label": self._label})
        return sorted(container["Names"][0].removeprefix(f"/{self.network}-") for container in found)

    def networks(self) -> list[str]:
        return [network["Name"] for network in self.api.networks(filters={"label": self._label})]

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(self.api.inspect_container(f"{self.network}-{name}"))

    def ids(self) -> dict[str, tuple[str, str, int]]:
        """For each container by name: its id, when it was started, and how often the engine did so again."""
        seen = {name: self.inspect(name) for name in self.names()}
        return {name: (data["Id"], data["State"]["StartedAt"], data["RestartCount"]) for name, data in seen.items()}

    def caller(self, image: str, script: str) -> str:
        """Starts a container in the environment's network, as another service would be there; returns its id."""
        made = self.api.create_container(
            image,
            ["sh", "-c", script],
            labels={"io.seamless.installation": self.installation},
            host_config=self.api.create_host_config(init=True, network_mode=self.network),
        )
        self.api.start(made["Id"])
        return str(made["Id"])

    def execute(self, container: str, *command: str) -> None:
        """Runs a command in a container to its end."""
        made = self.api.exec_create(container, list(command))["Id"]
        self.api.exec_start(made)
        assert self.api.exec_inspect(made)["ExitCode"] == 0, command

    def accepts_connections(self, name: str, port: int) -> bool:
        """Whether a container's port does at its own address, where the target asks as well."""
        address = self.inspect(name)["NetworkSettings"]["Networks"][self.network]["IPAddress"]
        with socket.socket() as probe:
            probe.settimeout(60)
            return bool(address) and probe.connect_ex((address, port)) == 0

    def fetch(self, image: str, path: str) -> str:
        """What `http://web:8080<path>` answers inside the environment."""
        caller = self.caller(image, f"wget -q -O - http://web:8080{path}")
        self.api.wait(caller)
        output: bytes = self.api.logs(caller)
        self.api.remove_container(caller)
        return output.decode()

    def clear(self) -> None:
        for container in self.api.containers(all=True, filters={"label": self._label}):
            with contextlib.suppress(NotFound):
                self.api.remove_container(container["Id"], force=True, v=True)
        for network in self.api.networks(filters={"label": self._label}):
            self.api.remove_network(network["Id"])

    @property
    def _label(self) -> str:
        return f"io.seamless.installation={self.installation}"


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.clear()


@pytest.fixture
def sockets_collected() -> Iterator[None]:
    """docker-py leaves the socket of a connection that failed to the garbage collector, which warns: in this test,
    which then has to ignore PytestUnraisableExceptionWarning, and in no other.
    """
    yield
    gc.collect()


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Player]:
    """A player of an ECS on which every deployment goes well."""
    with playing(new_ecs(HEALTHY), monkeypatch) as player:
        yield player
