"""Which of the host's programs build images and run Compose projects: several may be installed, not all able."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from seamless.errors import UnavailableError
from seamless.programs import Program, ProgramTimeoutError, base_environment, capture

Version = tuple[int, ...]

# From this version on the client has no builder of its own for BuildKit, and needs the plugin buildx.
_NEEDS_BUILDX: Final = (23,)
_ANSWERS_WITHIN_S: Final = 30.0

_docker: dict[str, str] = {}  # by PATH; what was not found is looked for again
_compose: dict[str, tuple[list[str], Version]] = {}


async def docker_cli() -> str:
    """The path of the first docker client on PATH that builds with BuildKit (set DOCKER_BUILDKIT=1 for it).

    Raises UnavailableError when there is none.
    """
    path = os.environ.get("PATH", os.defpath)
    if path not in _docker:
        seen = []
        for client in _installed("docker", path):
            if await _answer(client, "buildx", "version") or await _builds_itself(client):
                _docker[path] = client
                break
            seen.append(client)
        else:
            found = (
                f"{', '.join(seen)} cannot build with BuildKit" if seen else "there is no docker client on this host"
            )
            raise UnavailableError(found, hint="install the plugin docker-buildx, or a docker client older than 23")
    return _docker[path]


async def compose_cli() -> tuple[list[str], Version]:
    """How to call Compose (`["/usr/bin/docker", "compose"]` or `["/usr/bin/docker-compose"]`) and its version.

    The plugin of any docker client comes before the program of its own. Raises UnavailableError when there is none.
    """
    path = os.environ.get("PATH", os.defpath)
    if path not in _compose:
        candidates = [[client, "compose"] for client in _installed("docker", path)]
        candidates += [[program] for program in _installed("docker-compose", path)]
        for command in candidates:
            if version := read_version(await _answer(*command, "version", "--short")):
                _compose[path] = command, version
                break
        else:
            raise UnavailableError(
                "there is no Docker Compose on this host", hint="install docker-compose-plugin or docker-compose"
            )
    command, version = _compose[path]
    return list(command), version


def read_version(text: str) -> Version:
    """The numbers of "v2.29.1-desktop.1" or "1.29.2"; empty when there are none."""
    match = re.match(r"v?(\d+(?:\.\d+)+)", text.strip())
    return tuple(int(number) for number in match[1].split(".")) if match else ()


async def _builds_itself(client: str) -> bool:
    version = read_version(await _answer(client, "version", "--format", "{{.Client.Version}}", may_fail=True))
    return bool(version) and version < _NEEDS_BUILDX


def _installed(name: str, path: str) -> Iterator[str]:
    for folder in dict.fromkeys(path.split(os.pathsep)):
        file = os.path.join(folder or ".", name)
        if os.path.isfile(file) and os.access(file, os.X_OK):  # Path.is_file raises for a closed folder
            yield file


async def _answer(*argv: str, may_fail: bool = False) -> str:
    """What a program prints; empty when it fails. `may_fail`: it prints and fails when the engine is down."""
    environment = base_environment() | {"HOME": os.environ.get("HOME", "/")}  # plugins are looked for in ~/.docker too
    try:
        answer = await capture(Program(argv, env=environment), timeout_s=_ANSWERS_WITHIN_S)
    except (UnavailableError, ProgramTimeoutError):
        return ""
    return answer.stdout.decode(errors="replace") if may_fail or answer.exit_code == 0 else ""
