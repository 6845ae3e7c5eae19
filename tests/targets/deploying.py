"""What the tests of the Docker target share: an image of a small web service, journals, requests."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import docker

from seamless.model import DigestKind, Environment, ImageRef
from seamless.targets import DeployOutcome, DeployRequest, Journal, Log
from seamless.targets.docker import DockerTarget
from seamless.transitions import DeploymentEvent

BUSYBOX: Final = Path("/bin/busybox")
APPLETS: Final = ("sh", "httpd", "sleep", "rm", "dd", "wget", "cat", "env", "head", "nc", "touch", "date")

APP: Final = """#!/bin/sh
# A service whose behaviour is chosen by its environment.
[ -z "$SAY" ] || echo "$SAY"
[ -z "$EXIT" ] || exit "$EXIT"
[ -z "$EAT" ] || exec dd if=/dev/zero of=/dev/null bs="$EAT" count=1
[ -z "$SICK" ] || rm /www/healthz
talk() { while echo still here; do sleep 0.1; done | nc "$TALK" 9000 >>/www/talk; }
[ -z "$TALK" ] || { until talk; [ -s /www/talk ]; do sleep 0.1; done & }
[ -z "$TALK" ] || until [ -s /www/talk ]; do sleep 0.1; done
[ -z "$SLOW" ] || sleep "$SLOW"
[ -z "$AWAIT" ] || until [ -e "$AWAIT" ]; do sleep 0.1; done
[ -z "$IDLE" ] || exec sleep 1000
[ -z "$ECHO" ] || exec nc -l -p 9000 -e cat
exec httpd -f -p "${PORT:-8080}" -h /www
"""
ENV_CGI: Final = '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nprintf %s "$TOLD"\n'
SLOW_CGI: Final = '#!/bin/sh\nsleep 0.3\nprintf "Content-Type: text/plain\\r\\n\\r\\nwhole"\n'


def build(version: str, *changes: str) -> str:
    """Imports an image of the service that answers `version` on /version; returns its id."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:

        def add(name: str, content: bytes, mode: int = 0o644) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))

        for folder in ("tmp", "www", "www/cgi-bin"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        add("bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        add("app", APP.encode(), 0o755)
        add("www/version", version.encode())
        add("www/healthz", b"ok")
        add("www/cgi-bin/env", ENV_CGI.encode(), 0o755)
        add("www/cgi-bin/slow", SLOW_CGI.encode(), 0o755)
    api = docker.from_env().api
    answer = api.import_image_from_data(archive.getvalue(), changes=['CMD ["/app"]', "ENV PATH=/bin", *changes])
    return str(json.loads(answer.strip().splitlines()[-1])["status"])


class MemoryJournal:
    """A journal that forgets with its process."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.entries.get(key)

    async def record(self, **entries: Any) -> None:
        self.entries |= json.loads(json.dumps(entries))


class FileJournal:
    """A journal that outlives SIGKILL."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        return self._read().get(key)

    async def record(self, **entries: Any) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps({**self._read(), **entries}), encoding="utf-8")
        os.replace(beside, self._path)

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text(encoding="utf-8"))) if self._path.exists() else {}


@dataclass
class Lines:
    """A stage's log."""

    lines: list[str] = field(default_factory=list)

    async def __call__(self, line: str) -> None:
        self.lines.append(line)


def commit(deployment: int) -> str:
    """A full SHA for each deployment; the short one ends in its number."""
    return f"{deployment:07d}".ljust(40, "c")


def request(deployment: int, image: str, **changes: Any) -> DeployRequest:
    """A request of the service `web` on port 8080, checked by /healthz."""
    values: dict[str, Any] = {
        "run": f"web-{deployment}",
        "service": "web",
        "environment": Environment.STAGING,
        "commit": commit(deployment),
        "image": ImageRef(image, DigestKind.IMAGE_ID),
        "settings": {},
        "port": 8080,
        "publish": None,
        "health": "/healthz",
        "limits": {"cpus": 1.0, "memory": 64 * 1024**2, "pids": 64},
        "deadline_s": 60.0,
    }
    return DeployRequest(deployment=deployment, **{**values, **changes})


async def deploy_wholly(target: DockerTarget, going: DeployRequest, journal: Journal, log: Log) -> DeployOutcome:
    """Deploys, and after a success ends what was replaced."""
    outcome = await target.deploy(going, journal, log)
    if outcome.event is DeploymentEvent.COMPLETE:
        await target.retire(journal)
    return outcome


def free_port() -> int:
    """A port of the host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another task or program brings about."""
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)
