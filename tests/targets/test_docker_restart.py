"""A deployment whose engine is restarted in the middle: what the engine's own end takes down is no verdict."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from seamless.targets import DeployOutcome
from seamless.targets.docker import DockerTarget
from seamless.transitions import DeploymentEvent

from .deploying import Lines, MemoryJournal, build, request, until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.getuid() != 0 or shutil.which("dockerd") is None, reason="starts an engine of its own"),
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class PrivateEngine:
    """A second engine on this host, which leaves the first one's networks and rules alone."""

    def __init__(self, folder: Path, octet: int) -> None:
        self._folder = folder
        self._octet = octet
        self._bridge = f"seamless{octet}"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/engine.sock"
        for command in (f"add {self._bridge} type bridge", f"set {self._bridge} up"):
            subprocess.run(["ip", "link", *command.split()], check=True)
        subprocess.run(["ip", "address", "add", f"10.{octet}.0.1/24", "dev", self._bridge], check=True)

    def start(self) -> None:
        arguments = {
            "host": self.url,
            "data-root": f"{self._folder}/data",
            "exec-root": f"{self._folder}/exec",
            "pidfile": f"{self._folder}/pid",
            "bridge": self._bridge,
            "default-address-pool": f"base=10.{self._octet}.128.0/17,size=24",
            "iptables": "false",
            "storage-driver": "vfs",
        }
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", *(f"--{name}={value}" for name, value in arguments.items())], stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop()
        subprocess.run(["ip", "link", "delete", self._bridge], check=True)
        subprocess.run(["umount", f"{self._folder}/data"], check=False, stderr=subprocess.DEVNULL)

    def ready(self) -> bool:
        with contextlib.suppress(DockerException), contextlib.closing(docker.DockerClient(self.url)) as client:
            return bool(client.ping())
        return False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateEngine]:
    folder = Path(tempfile.mkdtemp())  # a socket's path must be short
    made = PrivateEngine(folder, 64 + secrets.randbelow(128))
    try:
        made.start()
        asyncio.run(until(made.ready))
        monkeypatch.setenv("DOCKER_HOST", made.url)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_new_release_taken_down_by_the_engines_own_end_is_started_again(engine: PrivateEngine) -> None:
    image = build("v1")
    target = DockerTarget("0a0b0c0d")
    log = Lines()

    async def main() -> DeployOutcome:
        task = asyncio.create_task(
            target.deploy(request(1, image, env={"SLOW": "3"}, deadline_s=60), MemoryJournal(), log)
        )
        await until(lambda: any(line.startswith("started ") for line in log.lines))
        await asyncio.to_thread(engine.stop)
        engine.start()
        return await task

    outcome = asyncio.run(main())
    assert outcome.event is DeploymentEvent.COMPLETE, outcome.reason
