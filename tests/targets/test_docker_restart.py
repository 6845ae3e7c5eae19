"""A deployment whose engine is restarted in the middle: what the engine's own end takes down is no verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from seamless.transitions import DeploymentEvent

from .deploying import FileJournal, build, until
from .driver import start_driver

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.getuid() != 0 or shutil.which("dockerd") is None, reason="starts an engine of its own"),
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class PrivateEngine:
    """A second engine on this host. In a network namespace of its own, it cannot meddle with the first one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.namespace = f"seamless-{secrets.token_hex(4)}"
        self.url = f"unix://{folder}/engine.sock"
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)

    def start(self) -> None:
        arguments = {
            "host": self.url,
            "data-root": f"{self._folder}/data",
            "exec-root": f"{self._folder}/exec",
            "pidfile": f"{self._folder}/pid",
            "storage-driver": "vfs",
        }
        command = ["dockerd", *(f"--{name}={value}" for name, value in arguments.items())]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen([*self.inside, *command], stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True)

    @property
    def inside(self) -> list[str]:
        """What to put before a command for it to reach the containers (`ip netns exec` would hide the cgroups)."""
        return ["nsenter", f"--net=/var/run/netns/{self.namespace}"]

    def ready(self) -> bool:
        with contextlib.suppress(DockerException), contextlib.closing(docker.DockerClient(self.url)) as client:
            return bool(client.ping())
        return False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateEngine]:
    folder = Path(tempfile.mkdtemp())  # a socket's path must be short
    made = PrivateEngine(folder)
    try:
        made.start()
        asyncio.run(until(made.ready))
        monkeypatch.setenv("DOCKER_HOST", made.url)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_new_release_taken_down_by_the_engines_own_end_is_started_again(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    order: dict[str, Any] = {
        "installation": "0a0b0c0d",
        "deployment": 1,
        "image": build("v1"),
        "changes": {"env": {"SLOW": "3"}, "deadline_s": 60},
        "journal": str(tmp_path / "journal"),
    }
    journal = FileJournal(tmp_path / "journal")
    with start_driver(order, within=engine.inside) as driver:
        asyncio.run(until(lambda: "start" in (journal.get("done") or ())))
        engine.stop()
        engine.start()
        output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    assert json.loads(output)["event"] == DeploymentEvent.COMPLETE, output
