"""A corner of the engine for each test, which must be empty again when the test is over."""

from __future__ import annotations

import asyncio
import io
import secrets
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from seamless.executors import LABEL_INSTALLATION, ContainerExit, ContainerSpec
from seamless.executors.docker import DockerExecutor

_PASSWD = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\napp:x:1234:5678::/:/bin/sh\n"


def import_image(files: dict[str, bytes], links: dict[str, str]) -> str:
    """Makes an image of these files (all executable); returns its name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            file = tarfile.TarInfo(path)
            file.size, file.mode = len(content), 0o755
            tar.addfile(file, io.BytesIO(content))
        for path, target in links.items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    repository, tag = "seamless-test-executors", secrets.token_hex(4)
    with docker_api() as api:
        api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
    return f"{repository}:{tag}"


def docker_api() -> Any:
    return docker.APIClient(version="auto")


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """Busybox with all its applets, and a user `app` (1234:5678)."""
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, check=True, text=True).stdout.split()
    files = {"bin/busybox": Path("/bin/busybox").read_bytes(), "etc/passwd": _PASSWD}
    name = import_image(files, {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"})
    yield name
    with docker_api() as api:
        api.remove_image(name, force=True)


@pytest.fixture
def api() -> Iterator[Any]:
    with docker_api() as client:
        yield client


@dataclass
class Place:
    """One installation."""

    image: str
    data_dir: Path
    api: Any
    installation: str = field(default_factory=lambda: secrets.token_hex(4))

    def name(self, what: str) -> str:
        return f"seamless-{self.installation}-{what}"

    def spec(self, script: str, *, stage: str = "shop-1-unit_test-1", **changes: Any) -> ContainerSpec:
        """A stage with its spool."""
        spool = self.data_dir / "spool" / stage
        spool.parent.mkdir(mode=0o700, exist_ok=True)
        spool.touch()
        spool.chmod(0o622)
        settings = {"image": self.image, "workdir": "/"} | changes
        return ContainerSpec(name=self.name(stage), script=script, spool=spool, **settings)

    def run(
        self,
        body: Callable[[DockerExecutor], Awaitable[None]],
        *,
        tidy: bool = True,
        close: bool = True,
        pool_size: int = 0,
        **changes: Any,
    ) -> None:
        """Runs `body` with an executor; `tidy` removes the containers and views that it leaves; without `close` the
        executor ends as if it were killed."""

        async def main() -> None:
            executor = await DockerExecutor.connect(self.installation, self.data_dir, pool_size=pool_size, **changes)
            try:
                await body(executor)
            finally:
                if tidy:
                    await remove_all(executor)
                if close:
                    await executor.close()

        asyncio.run(main())

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(self.api.inspect_container(name))

    def containers(self, role: str) -> list[str]:
        """Ids of this installation's containers of that role."""
        labels = [f"{LABEL_INSTALLATION}={self.installation}", f"io.seamless.role={role}"]
        return [entry["Id"] for entry in self.api.containers(all=True, filters={"label": labels})]

    def left(self) -> list[str]:
        mine = {"label": [f"{LABEL_INSTALLATION}={self.installation}"]}
        return [
            *(entry["Names"][0] for entry in self.api.containers(all=True, filters=mine)),
            *(entry["Name"] for entry in self.api.volumes(filters=mine)["Volumes"] or []),
            *(entry["Name"] for entry in self.api.networks(filters=mine)),
        ]


async def remove_all(executor: DockerExecutor) -> None:
    """Removes what `find` finds: first containers, then what they use."""
    for found in await executor.find():
        if found.kind == "container":
            await executor.remove(found.name)
        elif found.kind == "volume":
            await executor.remove_view(found.name)
        else:
            await executor.remove_network(found.name)


async def finish(executor: DockerExecutor, spec: ContainerSpec) -> ContainerExit:
    """Runs a stage to its end."""
    await executor.start(spec)
    return await executor.wait(spec.name)


async def until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Waits for what the test cannot be told of."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  there is nobody to set an event
            await asyncio.sleep(0.02)


@pytest.fixture
def place(image: str, tmp_path: Path, api: Any) -> Iterator[Place]:
    here = Place(image, tmp_path / "data", api)
    here.data_dir.mkdir(mode=0o700)
    yield here
    left = here.left()
    for name in left:
        subprocess.run(["docker", "rm", "-fv", name], capture_output=True, check=False)
        subprocess.run(["docker", "volume", "rm", name], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", name], capture_output=True, check=False)
    assert left == []
