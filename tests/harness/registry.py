"""A real image registry of the tests' own."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.engine import docker
from seamless.stages.registry import Credentials

_HTPASSWD = """\
acme:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a
AWS:$2b$05$abcdefghijklmnopqrstuu/4ofrUS75HrKu6f.iuRo0I/XlrmpqlC
"""  # secret, and the token of moto's ECR


@dataclass(frozen=True)
class LocalRegistry:
    host: str
    folder: Path
    process: subprocess.Popen[bytes]

    def has(self, name: str, reference: str) -> bool:
        """Whether a tag or digest of the repository `name` is there."""
        kinds = ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"]
        url = f"http://{self.host}/v2/{name}/manifests/{reference}"
        headers = {"Accept": ", ".join(kinds)}
        answer = httpx.head(url, auth=("acme", "secret"), headers=headers, trust_env=False)
        assert answer.status_code in (200, 404), answer
        return answer.status_code == 200

    @property
    def auth(self) -> dict[str, Credentials]:
        return {self.host: Credentials("acme", "secret")}


@contextlib.contextmanager
def local_registry(folder: Path, *, deletes: bool = True, host: str | None = None) -> Iterator[LocalRegistry]:
    """Docker's own registry on a free port of the loopback interface, with a log-in.

    The same folder and `host` as before: the same registry, started again.
    """
    program = shutil.which("docker-registry") or shutil.which("registry")
    assert program, "the tests need the package docker-registry"
    if host is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{free.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    (folder / "htpasswd").write_text(_HTPASSWD)
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": deletes}},
        "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        _await_registry(host, process)
        yield LocalRegistry(host, folder, process)
    finally:
        process.kill()
        process.wait()
        _forget(host)


def _forget(host: str) -> None:
    """Removes a registry's names, not the images: the base image may be one of them."""
    listing = ["image", "ls", "--digests", "--filter", f"reference={host}/*/*", "--format"]
    names = docker(*listing, "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}").split()
    for name in dict.fromkeys(name for name in names if "<none>" not in name):
        docker("image", "rm", name, check=False)


def _await_registry(host: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the registry did not start"
        try:
            if httpx.get(f"http://{host}/v2/", trust_env=False, timeout=60).status_code == httpx.codes.UNAUTHORIZED:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the registry does not answer")
