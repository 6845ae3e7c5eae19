"""A base image, a checkout to write into, a real registry, and a look at what is left on the engine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.registry import LocalRegistry, local_registry
from seamless.executors.builder import docker_cli

# The hash of "secret" by bcrypt, which is all that the registry takes.


def docker(*arguments: str, check: bool = True) -> str:
    """What the engine's client prints."""
    done = subprocess.run(["docker", *arguments], check=check, capture_output=True, text=True)
    return done.stdout.strip()


def inspect(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", reference))[0]
    return found


@pytest.fixture(scope="session")
def base_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Busybox and a shell, FROM scratch."""
    busybox = shutil.which("busybox")
    assert busybox, "the tests need the package busybox-static"
    folder = tmp_path_factory.mktemp("base")
    shutil.copy(busybox, folder / "busybox")
    (folder / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
        "RUN mkdir -p /tmp /etc && chmod 1777 /tmp && echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd\n"
    )
    name = f"seamless-test-base:{uuid.uuid4().hex[:8]}"
    build = [asyncio.run(docker_cli()), "build", "--quiet", "--tag", name, str(folder)]
    subprocess.run(build, check=True, capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture
def installation() -> Iterator[str]:
    """An installation's id of this test's own; fails the test when anything that carries it is left behind."""
    name = uuid.uuid4().hex[:8]
    yield name
    try:
        assert leftovers(name) == []
    finally:
        images = docker("image", "ls", "--quiet", "--filter", f"reference=*{name}*/*").split()
        for image in dict.fromkeys(images):
            docker("image", "rm", "--force", image)


def leftovers(installation: str) -> list[str]:
    """Containers, networks, volumes and Compose's images of an installation; images that it built are its own."""
    found: list[str] = []
    label = f"label=io.seamless.installation={installation}"
    found += docker("container", "ls", "--all", "--filter", label, "--format", "{{.Names}}").split()
    found += docker("network", "ls", "--filter", label, "--format", "{{.Name}}").split()
    found += docker("volume", "ls", "--filter", label, "--format", "{{.Name}}").split()
    found += docker("image", "ls", "--filter", f"reference=seamless-{installation}-*", "--format", "{{.Tag}}").split()
    return found


WriteTree = Callable[..., Path]


@pytest.fixture
def write_tree(tmp_path: Path) -> WriteTree:
    """Writes files, given by path and content, into a checkout and returns the checkout."""
    root = tmp_path / "checkout"
    root.mkdir()

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return root

    return write


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    file = tmp_path / "out"
    file.touch()
    return file


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with local_registry(tmp_path / "registry") as one:
        yield one


class TimeLimit:
    """A limit of `length_s` that is up when the test says so, however fast the machine is."""

    length_s = 601.0

    def __init__(self, timeout: Callable[[float | None], asyncio.Timeout]) -> None:
        self._timeout = timeout
        self._begun: list[asyncio.Timeout] = []

    def begin(self, delay_s: float | None) -> asyncio.Timeout:
        made = self._timeout(delay_s)
        if delay_s == self.length_s:
            self._begun.append(made)
        return made

    def run_out(self) -> None:
        """Of what began last. In the event loop."""
        self._begun[-1].reschedule(asyncio.get_running_loop().time())


@pytest.fixture
def time_limit(monkeypatch: pytest.MonkeyPatch) -> TimeLimit:
    limit = TimeLimit(asyncio.timeout)
    monkeypatch.setattr(asyncio, "timeout", limit.begin)
    return limit


async def until(condition: Callable[[], object]) -> None:
    """Waits for what another program brings about."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def _no_credentials_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever is logged in on the machine that runs the tests must not help them."""
    if "DOCKER_CONFIG" not in os.environ:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker-config"))
