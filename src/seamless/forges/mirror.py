"""One repository's bare mirror: made, mended, fetched into, kept small.

Nothing here may run twice at once for one mirror; `GitForge` sees to that. What was fetched is
kept alive by refs below `refs/seamless/`, named so that no two can be in each other's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from seamless import programs
from seamless.errors import InterruptedStageError, StorageError, UnavailableError
from seamless.forges import (
    CommitGoneError,
    MirrorDamagedError,
    RemoteProblem,
    StoredMirror,
    git_commands,
    symptoms,
)
from seamless.forges.git_commands import NetworkCommands
from seamless.forges.remotes import Remote, printable

# A server may refuse to send a commit by its SHA, or may no longer have it: then its ref is tried.
_NOT_SERVED: Final = re.compile(rb"not our ref|unadvertised object|couldn't find remote ref|no such remote ref", re.I)
_DAMAGED: Final = re.compile(
    rb"is corrupt|file .* is empty|unable to (?:unpack|parse|read) |inflate|bad object|missing (?:blob|tree|commit)"
    rb"|invalid (?:sha1|object)|hash mismatch|does not match index|packfile .* cannot|failed to read|bad tree object"
    rb"|broken links|did not send all necessary objects|not a git repository: ",
    re.I,
)
_CANNOT_WRITE: Final = re.compile(  # to this host's disk: what the server says of its own comes after "remote:"
    rb"^(?!remote:).*(?:no space left on device|out of diskspace|disk quota exceeded|unable to write)", re.I | re.M
)
_DAMAGE_MARK: Final = "damaged"
_GONE: Final = ".gone"  # what a mirror is called while it is removed
_FREE_SOME: Final = "look for free space and permissions in the agent's data_dir"
_MADE_ANEW: Final = "it is made anew at the next fetch; if it happens again, check the disk"
BRANCHES_AND_TAGS: Final = ("refs/seamless/heads/", "refs/seamless/tags/")  # as `fetch_all` found them
_ALL_REFSPECS: Final = ("+refs/heads/*:refs/seamless/heads/*", "+refs/tags/*:refs/seamless/tags/*")
_CURL_FIRST_S: Final = 1.0  # over http curl notices a stall itself, and says more about it
_SEEN_MAX: Final = 10_000
_GC: Final = {"gc.autoPackLimit": "30", "gc.cruftPacks": "true", "gc.pruneExpire": "30.days.ago"}


class Seen:
    """The commits that were seen in mirrors, so that git need not be asked again: a mirror keeps what it has, until
    another is made in its place."""

    def __init__(self) -> None:
        self._commits: dict[Path, tuple[object, set[str]]] = {}

    def of(self, mirror: Path) -> set[str]:
        """To look into, and to add to. Those of a mirror that is gone, damaged or new are none."""
        identity = _identity(mirror)
        known_identity, commits = self._commits.get(mirror, (None, set()))
        if identity is None or identity != known_identity or len(commits) > _SEEN_MAX:
            commits = set()
            self._commits[mirror] = identity, commits
        return commits


class Mirror:
    """The mirror of one remote below `commands.folder`; that it exists is nobody's business but `fetch`'s."""

    def __init__(self, remote: Remote, commands: NetworkCommands, seen: Seen, *, timeout_s: float) -> None:
        self.remote = remote
        self.path = commands.folder / f"{remote.key}.git"
        self._commands = commands
        self._seen = seen
        self._timeout_s = timeout_s

    async def run(self, plan: programs.Program, *, allowed: Sequence[int] = (0,)) -> programs.Captured:
        """Runs a command that needs no network. Raises InterruptedStageError when it was killed, or the mirror is
        damaged (MirrorDamagedError), StorageError when the disk is full, and UnavailableError for any other failure."""
        try:
            result = await programs.capture(plan, timeout_s=self._timeout_s)
        except programs.ProgramTimeoutError as error:
            why = f"git {error} on the mirror of {self.remote.address}"
            raise UnavailableError(why, hint="is the disk slow, or full?") from None
        if result.exit_code in allowed:
            return result
        if result.exit_code < 0:
            raise InterruptedStageError(f"git was killed (signal {-result.exit_code})", hint="is there enough memory?")
        self._check_room(plan, result)
        if _DAMAGED.search(result.stderr):
            self.mark_damaged()
            raise MirrorDamagedError(
                f"the mirror of {self.remote.address} is damaged (git: {printable(result.message)})",
                hint=_MADE_ANEW,
            )
        raise UnavailableError(
            f"git failed on the mirror of {self.remote.address}: {printable(result.message)}",
            hint=f"if it goes on, delete {self.path}: it is made anew",
        )

    async def has(self, commit: str) -> bool:
        """Whether the mirror holds that commit, and so its trees and history."""
        if _identity(self.path) is None:
            return False
        if commit in self._seen.of(self.path):
            return True
        plan = git_commands.local(self.path, "cat-file", "-e", f"{commit}^{{commit}}")
        found = (await self.run(plan, allowed=(0, 1, 128))).exit_code == 0
        if found:
            self._seen.of(self.path).add(commit)
        return found

    async def require(self, *commits: str) -> None:
        """Raises CommitGoneError for the first of them that is not here."""
        for commit in commits:
            if not await self.has(commit):
                raise CommitGoneError(
                    f"commit {commit} of {self.remote.address} is not in the mirror",
                    hint="it was never fetched, or the history was rewritten since",
                )

    async def fetch(self, commit: str, ref: str, spool: Path | None) -> None:
        """See `Forge.fetch`. `ref` is a full ref or a SHA (then there is none to look at)."""
        await self._ready(len(commit))
        kept_as = f"refs/seamless/commits/{hashlib.sha256(ref.encode()).hexdigest()[:20]}"
        if await self._fetch([f"+{commit}:{kept_as}"], spool):
            self._seen.of(self.path).add(commit)
            return
        if ref.startswith("refs/") and await self._fetch([f"+{ref}:{kept_as}"], spool) and await self.has(commit):
            return
        await self._fetch(_ALL_REFSPECS, spool, prune=True)
        if not await self.has(commit):
            raise CommitGoneError(
                f"commit {commit} is no longer to be had from {self.remote.address}",
                hint="its branch was deleted or its history rewritten; run the new commit",
            )

    async def fetch_all(self, sha_length: int) -> None:
        """Makes all branches and tags present, and forgets those that are gone."""
        await self._ready(sha_length)
        await self._fetch(_ALL_REFSPECS, None, prune=True)

    async def maintain(self) -> None:
        """Packs what many fetches left; does nothing when that is not due."""
        if self.path.is_dir():
            self._mend()
            await self.run(git_commands.local(self.path, "gc", "--quiet", "--auto", config=_GC))

    def mark_damaged(self) -> None:
        """Has the next fetch make the mirror anew. The objects stay until then, for whoever reads them."""
        with contextlib.suppress(OSError):
            (self.path / _DAMAGE_MARK).touch()

    async def _fetch(self, refspecs: Sequence[str], spool: Path | None, *, prune: bool = False) -> bool:
        """Whether the server had what the refspecs name."""
        plan = self._commands.fetch(self.remote, self.path, refspecs, prune=prune)
        low_speed_s = self._commands.low_speed_s
        result = await ask(plan, self.remote, low_speed_s=low_speed_s, timeout_s=self._timeout_s, spool=spool)
        if result.exit_code == 0 or _NOT_SERVED.search(result.stderr):
            return result.exit_code == 0
        self._check_room(plan, result)
        error = symptoms.explain(self.remote, result.stderr)
        if error.problem is RemoteProblem.OTHER and _DAMAGED.search(result.stderr):
            self.mark_damaged()
            raise MirrorDamagedError(
                f"the mirror is damaged: {error.message}", hint="it is made anew at the next fetch"
            )
        raise error

    def _check_room(self, plan: programs.Program, failed: programs.Captured) -> None:
        """Raises StorageError when it failed because it could not write. Git does not always say why."""
        if _CANNOT_WRITE.search(failed.stderr):
            raise StorageError(f"git cannot write to {plan.cwd or self.path}", hint=_FREE_SOME)

    async def _ready(self, sha_length: int) -> None:
        if _identity(self.path) is not None:
            self._mend()
            return
        half_made = self.path.with_suffix(".new")
        for folder in (self.path, half_made):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self.run(git_commands.init(half_made, "sha256" if sha_length == 64 else "sha1"))
        try:
            (half_made / "description").write_text(self.remote.address + "\n", encoding="utf-8")
            half_made.rename(self.path)
        except OSError as error:
            raise StorageError(f"{half_made} cannot be written: {error.strerror}", hint=_FREE_SOME) from error

    def _mend(self) -> None:
        """Removes what a killed git left: locks that nobody holds, packs that were never finished."""
        for leftover in _leftovers(self.path):
            leftover.unlink(missing_ok=True)


async def ask(
    plan: programs.Program, remote: Remote, *, low_speed_s: float, timeout_s: float, spool: Path | None = None
) -> programs.Captured:
    """Runs a command that talks to a remote. Raises RemoteUnavailableError when it stalls or is killed."""
    silence_s = low_speed_s + _CURL_FIRST_S
    try:
        result = await programs.capture(plan, timeout_s=timeout_s, silence_s=silence_s, stderr=spool)
    except programs.ProgramTimeoutError as error:
        raise symptoms.stalled(remote, str(error)) from None
    if result.exit_code < 0:
        raise symptoms.killed(remote, -result.exit_code)
    return result


def _identity(mirror: Path) -> object | None:
    """What tells a mirror from another that is made in its place; None when there is none, or it is damaged."""
    if not _is_whole(mirror) or (mirror / _DAMAGE_MARK).exists():
        return None
    made = (mirror / "description").stat()
    return made.st_ino, made.st_mtime_ns


def other_mirrors(folder: Path, keys: Collection[str]) -> list[StoredMirror]:
    """What is in the folder of all mirrors and belongs to no remote of these keys, nor is being made. Blocking."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.partition(".")[0] in keys and path.suffix != _GONE:
            continue
        with contextlib.suppress(OSError):
            last = path / "FETCH_HEAD"
            fetched_at = datetime.fromtimestamp((last if last.exists() else path).stat().st_mtime, UTC)
            address = path / "description"
            told = address.read_text(encoding="utf-8").strip() if address.exists() else path.name
            found.append(StoredMirror(path, told, fetched_at))
    return found


def remove_mirror(path: Path) -> None:
    """Blocking. One that is killed half-way leaves something that `other_mirrors` finds."""
    gone = path.with_suffix(_GONE)
    if path != gone:
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
    shutil.rmtree(gone)


def _is_whole(mirror: Path) -> bool:
    """Whether git would take it for a repository at all."""
    try:
        parts = ("HEAD", "config", "description", "objects", "refs")
        return all((mirror / part).stat().st_size > 0 for part in parts)
    except OSError:
        return False


def _leftovers(mirror: Path) -> Iterator[Path]:
    yield mirror / "gc.pid"
    yield from mirror.glob("*.lock")
    yield from (mirror / "objects" / "pack").glob("tmp_*")
    for folder, _, names in os.walk(mirror / "refs"):
        yield from (Path(folder, name) for name in names if name.endswith(".lock"))
