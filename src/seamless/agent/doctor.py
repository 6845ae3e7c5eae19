"""`seamless doctor`: whether this host can do what the agent needs, each finding with the command that mends it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from seamless import findings
from seamless.config import Config
from seamless.errors import SeamlessError
from seamless.executors.builder import Version, compose_cli, docker_cli, read_version
from seamless.executors.engine import Engine
from seamless.executors.lookup import facts
from seamless.findings import Finding
from seamless.paths import SYSTEM_CONFIG
from seamless.programs import Program, ProgramTimeoutError, base_environment, capture

_OLDEST_ENGINE: Final = (20, 10)
_OLDEST_GIT: Final = (2, 38)  # merge-tree --write-tree
_OLDEST_COMPOSE: Final = (1, 29)
# (from, to, why): versions from the first to before the second. Sources: osv.dev and the projects' release notes.
_BAD_ENGINES: Final[Sequence[tuple[Version, Version, str]]] = (
    ((0,), (20, 10, 14), "processes of containers inherit capabilities (CVE-2022-24769)"),
)
_BAD_GITS: Final[Sequence[tuple[Version, Version, str]]] = (
    ((2, 38), (2, 38, 4), "a crafted repository may read this host's files (CVE-2023-22490)"),
    ((2, 39), (2, 39, 2), "a crafted repository may read this host's files (CVE-2023-22490)"),
)
_LITTLE_SPACE: Final = 5 * 2**30  # bytes
_LITTLE_FILES: Final = 100_000
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised

Examination = Callable[[], Awaitable[Sequence[Finding]]]
"""What another part adds, such as a look at GitHub or AWS."""


async def examine(config: Config, more: Sequence[Examination] = ()) -> list[Finding]:
    """Every finding about this host, as this process's user sees it. Raises nothing."""
    parts: list[Examination] = [
        lambda: _engine(config),
        _builder,
        _compose,
        _git,
        lambda: _disk(config),
        _clock,
        lambda: _access(config),
    ]
    found = await asyncio.gather(*(_safely(part) for part in [*parts, *more]))
    return [finding for part in found for finding in part]


async def _safely(part: Examination) -> Sequence[Finding]:
    try:
        return await part()
    except SeamlessError as error:
        return [findings.failed("doctor", error, mend="see the agent's log")]


async def _engine(config: Config) -> Sequence[Finding]:
    try:
        engine = await Engine.connect()
    except SeamlessError as error:
        if isinstance(error.__cause__, PermissionError) and config.file == SYSTEM_CONFIG:
            # The agent is a user of its own there, and people need no group that is root's equal.
            return [findings.not_checked("engine", f"{error.message}, and need not", "sudo seamless doctor")]
        return [findings.failed("engine", error, mend="start it: sudo systemctl start docker")]
    try:
        known = await facts(engine)
    finally:
        engine.close()
    what = f"Docker Engine {known.version}, {known.storage_driver}, {known.folder}"
    judged = _version("engine", what, known.version, _OLDEST_ENGINE, _BAD_ENGINES, "docker.io or docker-ce")
    return [
        judged,
        *(findings.warning("engine", text, "see docs.docker.com/engine/install") for text in known.warnings),
    ]


async def _builder() -> Sequence[Finding]:
    try:
        client = await docker_cli()
    except SeamlessError as error:
        return [findings.failed("buildkit", error, mend="install docker-buildx")]
    return [findings.ok("buildkit", f"{client} builds with BuildKit")]


async def _compose() -> Sequence[Finding]:
    try:
        command, version = await compose_cli()
    except SeamlessError as error:
        return [findings.failed("compose", error, mend="install docker-compose-plugin")]
    text = ".".join(map(str, version))
    what = f"{' '.join(command)} {text}"
    return [_version("compose", what, text, _OLDEST_COMPOSE, (), "docker-compose-plugin")]


async def _git() -> Sequence[Finding]:
    try:
        said = await capture(Program(["git", "version"], env=base_environment()), timeout_s=20)
    except (SeamlessError, ProgramTimeoutError):
        return [findings.error("git", "there is no program git on this host", "sudo apt install git")]
    text = said.stdout.decode(errors="replace").removeprefix("git version").strip()
    return [_version("git", f"git {text}", text, _OLDEST_GIT, _BAD_GITS, "git")]


def _version(
    subject: str, what: str, text: str, oldest: Version, bad: Sequence[tuple[Version, Version, str]], package: str
) -> Finding:
    version = read_version(text)
    needed = ".".join(map(str, oldest))
    if not version:
        return findings.warning(subject, f"{what}: this version cannot be read", f"see that it is {needed} or newer")
    if version < oldest:
        return findings.error(subject, f"{what} is too old: Seamless needs {needed}", f"install a newer {package}")
    for first, end, why in bad:
        if first <= version < end:
            return findings.warning(
                subject, f"{what}: {why}", f"update {package} to {'.'.join(map(str, end))} or newer"
            )
    return findings.ok(subject, what)


async def _disk(config: Config) -> Sequence[Finding]:
    places = {"the data directory": config.agent.data_dir}
    try:
        engine = await Engine.connect()
        places["the Docker Engine"] = engine.folder
        engine.close()
    except SeamlessError:
        pass
    return [_space(what, folder) for what, folder in places.items()]


def _space(what: str, folder: Path) -> Finding:
    while not folder.exists():
        folder = folder.parent
    try:
        space, files = shutil.disk_usage(folder), os.statvfs(folder)
    except OSError as error:
        return findings.not_checked("disk", f"{what} ({folder}): {(error.strerror or '').lower()}")
    share, free = 100 * space.used // max(space.total, 1), space.free / 2**30
    told = f"{what} ({folder}): {free:.1f} GiB free, {share}% used"
    if files.f_files and files.f_favail < _LITTLE_FILES:
        return findings.warning("disk", f"{told}, room for {files.f_favail} files", "seamless gc --dry-run")
    if space.free < _LITTLE_SPACE:
        return findings.warning("disk", told, "seamless gc --dry-run")
    return findings.ok("disk", told)


async def _clock() -> Sequence[Finding]:
    """Signatures of AWS and GitHub hold for minutes, so a clock that runs away ends in refused requests."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        return [findings.not_checked("clock", "this host does not tell whether it is synchronised")]
    if state == _TIME_ERROR:
        return [
            findings.warning(
                "clock", "is not synchronised, as far as the kernel knows", "sudo timedatectl set-ntp true"
            )
        ]
    return [findings.ok("clock", "is synchronised")]


async def _access(config: Config) -> Sequence[Finding]:
    return list(await asyncio.to_thread(lambda: list(_modes(config))))


def _modes(config: Config) -> Iterator[Finding]:
    """Who may read and write what is the agent's."""
    agent = config.agent
    wanted = [
        ("configuration", config.file, 0o002, f"chmod o-w {config.file}"),
        ("data directory", agent.data_dir, 0o077, f"chmod 0700 {agent.data_dir}"),
        ("socket", agent.socket, 0o007, f"chmod 0660 {agent.socket}"),
        ("socket's directory", agent.socket.parent, 0o002, f"chmod 0750 {agent.socket.parent}"),
    ]
    wanted += [
        (f"services.{name}.git.key", service.git.key, 0o077, f"chmod 0600 {service.git.key}")
        for name, service in config.services.items()
        if service.git.key is not None
    ]
    wrong = 0
    for what, path, closed, mend in wanted:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # that it is missing is told by whoever needs it
        if mode & closed:
            wrong += 1
            yield findings.warning("permissions", f"the {what} {path} is open to others: {mode:04o}", mend)
    try:
        if stat.S_IMODE(Path("/var/run/docker.sock").stat().st_mode) & 0o006:
            wrong += 1
            mend = "sudo chmod 0660 /var/run/docker.sock"
            yield findings.warning("permissions", "everybody may use the Docker Engine, and so is root", mend)
    except OSError:
        pass
    if not wrong:
        yield findings.ok("permissions", "configuration, data and socket are closed to others")
