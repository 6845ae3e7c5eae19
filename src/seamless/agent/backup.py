"""A backup is one file: what cannot be had again, and a list by which it is verified.

A gzipped tar with `seamless.db` (a snapshot), `installation`, `config.toml`, `logs/…` and, last, `manifest.json` with
the size and SHA-256 of each. What can be had again is not in it: mirrors, checkouts, caches, images. Secrets are not
in it either: database and configuration hold references, logs are redacted.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import secrets
import shlex
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from seamless import __version__
from seamless.agent.logs.packed import packed
from seamless.agent.store import SCHEMA_VERSION, Store
from seamless.errors import ConfigError, RefusedError, SeamlessError, StorageError, UnavailableError, UsageError
from seamless.model import STAGE_ENVIRONMENT, CancelRequest, Run, utc_now
from seamless.transitions import DeploymentEvent, DeploymentState, RunEvent, RunState, StageEvent, StageState

FORMAT: Final = 1
RESTORED: Final = "restored.json"  # in the data directory: the next agent settles what was under way
RESTORING: Final = "restoring"  # in the data directory: a restore was cut short
_DATABASE: Final = "seamless.db"
_MANIFEST: Final = "manifest.json"
_KEPT: Final = (_DATABASE, "installation", "logs")
_CHUNK: Final = 256 * 1024
_NEWER: Final = "install that version, or a newer one; nothing was changed"
_WHY: Final = "it was under way when the backup was made that was restored"


class BackupError(SeamlessError):
    """The file is no whole backup of this or an older version; nothing was changed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    version: str  # of Seamless
    schema: int
    made_at: str
    installation: str
    files: dict[str, dict[str, Any]]  # name -> {"size", "sha256"}


# -- making one


def check_room(data_dir: Path) -> None:
    """Raises StorageError where a snapshot would take what the database needs to go on. `agent.min_free` is no matter:
    a backup is what one makes before one clears up."""
    files = (data_dir / _DATABASE, data_dir / f"{_DATABASE}-wal")
    wanted = 2 * sum(file.stat().st_size for file in files if file.exists())
    found = os.statvfs(data_dir)
    if (free := found.f_bavail * found.f_frsize) < wanted:
        raise StorageError(
            f"{data_dir} has {free / 2**20:.1f} MiB free, and a copy of the database needs {wanted / 2**20:.1f} MiB",
            hint="free some space there",
        )


async def snapshot(store: Store, data_dir: Path) -> Path:
    """The database as it is now, in a file of its own that the caller removes. Raises StorageError."""
    path = data_dir / "work" / f"backup-{secrets.token_hex(8)}.db"
    try:
        await store.snapshot(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def stream(database: Path, data_dir: Path, config_file: Path) -> Iterator[bytes]:
    """The backup's bytes, bounded in memory; to be run in threads. Logs that grow are taken as long as they are now."""
    packer = zlib.compressobj(6, wbits=31)
    for block in _tar(database, data_dir, config_file):
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()


def _tar(database: Path, data_dir: Path, config_file: Path) -> Iterator[bytes]:
    files: dict[str, dict[str, Any]] = {}
    for name, path in (
        (_DATABASE, database),
        ("installation", data_dir / "installation"),
        ("config.toml", config_file),
    ):
        yield from _entry(name, path, files)
    folder = data_dir / "logs"
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        # What was packed since it was listed is in its packed file now.
        for place in (path, packed(path)):
            name = str(PurePosixPath("logs", place.relative_to(folder)))
            if place.suffix != ".part" and name not in files:
                yield from _entry(name, place, files)
    manifest = {
        "format": FORMAT,
        "version": __version__,
        "schema": SCHEMA_VERSION,
        "made_at": utc_now().isoformat(),
        "installation": (data_dir / "installation").read_text(encoding="ascii").strip(),
        "files": files,
    }
    content = json.dumps(manifest).encode()
    yield _header(_MANIFEST, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(name: str, path: Path, files: dict[str, dict[str, Any]]) -> Iterator[bytes]:
    """Nothing for a file that is not there."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        size = missing = os.fstat(file.fileno()).st_size
        yield _header(name, size)
        digest = hashlib.sha256()
        while missing:
            chunk = file.read(min(_CHUNK, missing)) or bytes(
                min(_CHUNK, missing)
            )  # cut meanwhile: the size is promised
            digest.update(chunk)
            missing -= len(chunk)
            yield chunk
        yield bytes(-size % tarfile.BLOCKSIZE)
        files[name] = {"size": size, "sha256": digest.hexdigest()}


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    return entry.tobuf(tarfile.PAX_FORMAT)


# -- verifying and restoring one


def unpack(file: Path, folder: Path) -> Manifest:
    """Unpacks into `folder` and verifies all of it. Raises BackupError; UsageError for a file that is none;
    UnavailableError for a disk that is full."""
    try:
        with open(file, "rb") as source:
            head = source.read(16)
        if head == b"SQLite format 3\0":  # as the agent makes before it migrates
            shutil.copyfile(file, folder / _DATABASE)
            manifest = Manifest("", _schema(folder / _DATABASE), "", "", {})
        else:
            manifest = _unpacked(file, folder)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{file} is no whole backup: {error}", hint="it may have been cut short; take another"
        ) from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        hint = "name what seamless backup wrote"
        if isinstance(error, PermissionError):  # it is its maker's alone, and who restores is the agent's user
            hint = f"sudo chown {os.geteuid()} {shlex.quote(str(file))}"
        raise UsageError(f"{file} cannot be read: {(error.strerror or '').lower()}", hint=hint) from None
    except OSError as error:
        raise UnavailableError(
            f"{file} cannot be unpacked in {folder.parent}: {error.strerror or error}",
            hint="nothing was changed; free some space there" if error.errno == errno.ENOSPC else None,
        ) from None
    if manifest.schema > SCHEMA_VERSION:
        raise BackupError(
            f"{file} was made by a newer Seamless {manifest.version} (schema {manifest.schema}, this one knows"
            f" {SCHEMA_VERSION})",
            hint=_NEWER,
        )
    return manifest


def _unpacked(file: Path, folder: Path) -> Manifest:
    digests: dict[str, dict[str, Any]] = {}
    content = b""
    with gzip.open(file, "rb") as whole, tarfile.open(fileobj=whole, mode="r:") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if not member.isreg() or name.is_absolute() or ".." in name.parts:
                raise ValueError(f"it holds {member.name}, which no backup does")
            source = archive.extractfile(member)
            assert source is not None
            if member.name == _MANIFEST:
                content = source.read()
                continue
            digests[member.name] = _copied(source, folder / name)
        while whole.read(_CHUNK):  # to gzip's own end, which a file that was cut short lacks
            pass
    if not content:
        raise ValueError("its list of files is missing")
    data = json.loads(content)
    if data["format"] > FORMAT:
        raise BackupError(
            f"{file} was made by a newer Seamless {data['version']} (format {data['format']}, this one knows {FORMAT})",
            hint=_NEWER,
        )
    wrong = {name for name in digests.keys() | data["files"].keys() if digests.get(name) != data["files"].get(name)}
    if wrong:
        raise ValueError(f"{min(wrong)} is not what it was when the backup was made")
    if _schema(folder / _DATABASE) != data["schema"]:
        raise ValueError("its database is of another version than it says")
    return Manifest(data["version"], data["schema"], data["made_at"], data["installation"], data["files"])


def _copied(source: IO[bytes], target: Path) -> dict[str, Any]:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, size = hashlib.sha256(), 0
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def _schema(database: Path) -> int:
    """The version of a database that is whole. Raises ValueError."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                raise ValueError("its database is damaged")
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.DatabaseError as error:
            raise ValueError(f"its database is damaged: {error}") from None


def verify(file: Path, below: Path) -> Manifest:
    """As `unpack`, leaving nothing. `below`: where there is room for it."""
    with tempfile.TemporaryDirectory(prefix="seamless-verify-", dir=below) as folder:
        return unpack(file, Path(folder))


def restore(file: Path, data_dir: Path, *, force: bool) -> tuple[Manifest, Path | None]:
    """Puts a verified backup in the data directory, which must be this process's alone (its lock is held).

    What is there is moved aside, never removed: returns the folder that it is in. Raises RefusedError when there is
    something and `force` is not set, BackupError as `unpack`; nothing is changed then.
    """
    there = [name for name in (*_KEPT, f"{_DATABASE}-wal", f"{_DATABASE}-shm") if (data_dir / name).exists()]
    has_data = (data_dir / _DATABASE).exists()
    if has_data and not force:
        raise RefusedError(
            f"{data_dir} holds the data of an agent already",
            hint="--force puts the backup in its place; what is there is moved aside, not removed",
        )
    for left in data_dir.glob("restore-*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="restore-", dir=data_dir))
    try:
        manifest = unpack(file, new)
        aside = data_dir / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        with open(new / RESTORING, "w", encoding="utf-8") as marker:
            marker.write(f"{file}\n{aside}\n")
            marker.flush()
            os.fsync(marker.fileno())
        (new / RESTORING).rename(data_dir / RESTORING)  # there as a whole, or not at all
        if there:
            aside.mkdir(mode=0o700)
        for name in there:
            if name != "installation" or manifest.installation:
                (data_dir / name).rename(aside / name)
        for name in _KEPT:
            if (new / name).exists():
                (new / name).rename(data_dir / name)
        (data_dir / RESTORED).write_text(json.dumps({"file": str(file), "made_at": manifest.made_at}), encoding="utf-8")
        os.sync()
        (data_dir / RESTORING).unlink()
    except OSError as error:
        raise UnavailableError(f"{file} cannot be restored to {data_dir}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return manifest, aside if has_data else None


# -- the agent that starts on restored data


def check_whole(data_dir: Path) -> None:
    """Raises ConfigError when a restore was cut short: an agent would begin with a part of the data."""
    marker = data_dir / RESTORING
    if marker.exists():
        file, aside, *_ = [*marker.read_text(encoding="utf-8").splitlines(), "", ""]
        raise ConfigError(
            f"a restore of {file} was cut short; what was there before is in {aside}",
            hint=f"seamless restore --force {file}",
        )


async def settle(store: Store, data_dir: Path) -> None:
    """After a restore: what was under way then is not any more, and checkouts and caches are not there. After an agent
    that died while it made a backup: its copy of the database goes."""
    for left in (data_dir / "work").glob("backup-*"):
        left.unlink(missing_ok=True)
    marker = data_dir / RESTORED
    if not marker.exists():
        return
    told = json.loads(marker.read_text(encoding="utf-8"))
    async with store.transaction():
        await store.events.add("action", "restore", actor="agent", data=told)
        await store.workspaces.forget_all()
        for run in await store.runs.active():
            if run.state is RunState.IN_PROGRESS and not await _lose(store, run):
                await store.runs.request_cancel(run, CancelRequest(RunEvent.CANCEL, _WHY, "agent"))
    marker.unlink()


async def _lose(store: Store, run: Run) -> bool:
    """Ends a run that was deploying: its deployment is unknown, and the next one finds out. False for all others."""
    deploying = [one for one in run.stages if one.name in STAGE_ENVIRONMENT and one.state is StageState.IN_PROGRESS]
    if not deploying:
        return False
    stage = deploying[0]
    deployment = await store.deployments.of_run(run.id, STAGE_ENVIRONMENT[stage.name])
    if deployment is None or deployment.state is not DeploymentState.IN_PROGRESS:
        return False
    await store.deployments.transition(deployment, DeploymentEvent.LOSE_SIGHT, reason=_WHY)
    await store.runs.transition_stage(run, stage, StageEvent.FAIL, reason=_WHY)
    for one in run.stages:
        if one.state is StageState.IDLE:
            await store.runs.transition_stage(run, one, StageEvent.SKIP, reason=f"{stage.name} was lost sight of")
    await store.runs.transition(run, RunEvent.FAIL, reason=f"{stage.name}: {_WHY}")
    return True
