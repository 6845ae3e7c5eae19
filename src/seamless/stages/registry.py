"""Image registries, and what Docker's programs need to talk to them: credentials, pushes, look-ups.

Docker's programs read credentials from a folder. Each call gets a folder of its own that is removed
afterwards, so that nothing of the agent's user leaks into a build, and no credential into an argument.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from seamless import programs
from seamless.errors import EngineUnavailableError, InterruptedStageError, StageError, UnavailableError
from seamless.executors.builder import docker_cli
from seamless.model import DigestKind, ImageRef
from seamless.programs import Program, ProgramTimeoutError, base_environment
from seamless.stages.build_failure import is_engine_lost
from seamless.stages.engine_api import ask_engine, engine_socket

DOCKER_HUB: Final = "docker.io"

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"  # what Docker's programs file Docker Hub's credentials under
_PUSH_ATTEMPTS: Final = 3
_BACK_OFF_S: Final = 2.0
_SHORT_CALL_S: Final = 60.0
_ANSWERS_WITHIN_S: Final = 10.0
_TAIL_BYTES: Final = 64 * 1024
# Answers that the same push will get again.
_FINAL: Final = re.compile(
    r"denied|unauthorized|no basic auth|authentication required|forbidden|does not exist|invalid reference|"
    r"server gave HTTP response to HTTPS client|certificate|name unknown|manifest invalid",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in to one registry."""

    username: str
    password: str = field(repr=False)


RegistryAuth = Mapping[str, Credentials]
"""Credentials by registry host, as in `[registries]`: "ghcr.io", "127.0.0.1:5000", "docker.io"."""


@contextlib.contextmanager
def client_environment(work_dir: Path, auth: RegistryAuth, docker: str) -> Iterator[dict[str, str]]:
    """The environment for Docker's programs: `docker`'s folder first on PATH, and a configuration of their own.

    The configuration lies in `work_dir` until the block ends. It knows `auth` and nothing of ~/.docker but
    where its plug-ins are. It also makes BuildKit send every context anew: with a lasting identity it would
    take files of equal size and time for unchanged, and checkouts can have both without being equal.
    """
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=".docker-", dir=work_dir))
    try:
        settings: dict[str, object] = {"auths": {_auth_key(host): _encode(each) for host, each in auth.items()}}
        if (plugins := _user_plugins()).is_dir():
            settings["cliPluginsExtraDirs"] = [str(plugins)]
        write_private(folder / "config.json", json.dumps(settings).encode())
        environment = engine_environment()
        environment["PATH"] = f"{Path(docker).parent}{os.pathsep}{environment['PATH']}"
        yield {**environment, "DOCKER_CONFIG": str(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def engine_environment() -> dict[str, str]:
    """The environment for calls of Docker's programs that need no credentials."""
    environment = base_environment()
    if "DOCKER_HOST" in os.environ:
        environment["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    return environment


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only the agent can read, from its first moment on."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def read_tail(spool: Path, start: int) -> str:
    """The end of what was written to `spool` since it was `start` bytes long, as far as it is still there."""
    with open(spool, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
        return file.read(_TAIL_BYTES).decode(errors="replace")


async def push_image(
    repository: str, tag: str, *, spool: Path, auth: RegistryAuth, work_dir: Path, timeout_s: float
) -> ImageRef:
    """Pushes a tag of this engine and returns it by its manifest's digest. Safe to repeat.

    Tries three times, waiting 2 s and 4 s. Raises StageError with the registry's answer, and
    InterruptedStageError when the engine went away.
    """
    docker = await docker_cli()
    named = f"{repository}:{tag}"
    with client_environment(work_dir, auth, docker) as environment:
        try:
            async with asyncio.timeout(timeout_s):
                printed = await _push(docker, named, environment, spool)
        except TimeoutError:
            raise StageError(f"the push of {named} timed out after {timeout_s:g} s") from None
        return ImageRef(await _digest(docker, repository, named, printed), DigestKind.MANIFEST, repository)


async def image_available(image: ImageRef, auth: RegistryAuth) -> bool:
    """Whether the image is in this engine or, a manifest, in its registry. Raises UnavailableError."""
    if (await ask_engine("GET", f"/images/{image.pullable}/json")).status == HTTPStatus.OK:
        return True
    return image.kind is DigestKind.MANIFEST and await image_platforms(image, auth) is not None


async def image_platforms(image: ImageRef, auth: RegistryAuth) -> list[str] | None:
    """What a manifest in its registry runs on, such as ["linux/amd64"]; None: it is not there. Raises UnavailableError.

    The engine asks the registry, so that what it trusts (insecure registries, certificates) counts.
    """
    headers = {}
    if (credentials := auth.get(registry_host(image.repository or ""))) is not None:
        login = {"username": credentials.username, "password": credentials.password}
        headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(login).encode()).decode()
    answer = await ask_engine("GET", f"/distribution/{image.pullable}/json", headers=headers)
    if answer.status == HTTPStatus.OK:
        return [_platform(each) for each in answer.body.get("Platforms") or []]
    if answer.status == HTTPStatus.NOT_FOUND or "manifest unknown" in answer.message:
        return None
    raise UnavailableError(f"{image.repository} cannot be asked for {image.digest[:19]}: {answer.message}")


def _platform(said: Mapping[str, str]) -> str:
    """{"os": "linux", "architecture": "arm64", "variant": "v8"} -> "linux/arm64/v8"."""
    return "/".join(part for part in (said.get("os"), said.get("architecture"), said.get("variant")) if part)


class EngineWatch:
    """A connection to the engine that does nothing: its end tells that the engine went away, be it back by now.

    An engine that is stopped ends what it builds, and may call that a failure of the build's own.
    """

    async def __aenter__(self) -> EngineWatch:
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                self._reader, self._writer = await asyncio.open_unix_connection(engine_socket())
                self._writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
                await self._reader.readuntil(b"\r\n\r\nOK")
        except (OSError, EOFError) as error:  # a TimeoutError is an OSError
            raise EngineUnavailableError("the Docker Engine does not answer") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def went_away(self) -> bool:
        """dockerd stops listening before it ends anything (moby's cmd/dockerd): whoever can still connect has either
        the same engine as before, or a new one, in whose place the old one has closed this connection."""
        try:
            async with EngineWatch():
                return self._reader.at_eof() or self._reader.exception() is not None
        except EngineUnavailableError:
            return True


def registry_host(repository: str) -> str:
    """The registry of a repository: `127.0.0.1:5000/team/api` -> `127.0.0.1:5000`, `acme/api` -> `docker.io`."""
    first, slash, _ = repository.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else DOCKER_HUB


async def _push(docker: str, named: str, environment: Mapping[str, str], spool: Path) -> str:
    for attempt in range(1, _PUSH_ATTEMPTS + 1):
        start = spool.stat().st_size
        code = await programs.run(Program([docker, "push", named], environment), output=spool)
        printed = read_tail(spool, start)
        if code == 0:
            return printed
        if is_engine_lost(printed):
            raise InterruptedStageError("the engine went away during the push")
        if attempt == _PUSH_ATTEMPTS or _FINAL.search(_last_line(printed)):
            break
        await asyncio.sleep(_BACK_OFF_S * attempt)
    hint = "is the registry in [registries], with a user who may push?" if _FINAL.search(_last_line(printed)) else None
    raise StageError(f"the push of {named} failed: {_last_line(printed)}", hint=hint)


async def _digest(docker: str, repository: str, named: str, printed: str) -> str:
    """The engine's record is the truth; what the push said chooses where the engine knows several digests."""
    command = [docker, "image", "inspect", "--format", "{{json .RepoDigests}}", named]
    try:
        captured = await programs.capture(Program(command, engine_environment()), timeout_s=_SHORT_CALL_S)
    except ProgramTimeoutError:
        raise EngineUnavailableError("the Docker Engine does not answer") from None
    if captured.exit_code != 0:
        raise InterruptedStageError(f"the pushed image cannot be inspected: {captured.message}")
    recorded: list[str] = json.loads(captured.stdout) or []
    known = [each.partition("@")[2] for each in recorded if each.startswith(f"{repository}@")]
    said: list[str] = re.findall(r"digest: (sha256:[0-9a-f]{64})", printed)
    chosen = next((digest for digest in reversed(said) if digest in known), known[0] if len(known) == 1 else None)
    if chosen is None:
        raise StageError(f"the registry did not say the digest of {named}")
    return chosen


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def _auth_key(host: str) -> str:
    return _DOCKER_HUB_KEY if host == DOCKER_HUB else host


def _encode(credentials: Credentials) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()}


def _user_plugins() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins"
