"""Where code comes from: the interface of a forge.

A forge is made for the installation; each call names a repository. All git work goes through a bare
mirror that is kept per repository URL. What changes a mirror is serialised inside, so is what
changes one tree; everything else runs side by side. Everything is idempotent. Cancelling a call, or
killing the agent in the middle of it, leaves a mirror and a tree that the next call mends.

Commits are full, lower-case SHAs throughout (`resolve` makes them from what people write).
File names and authors that are not UTF-8 come as text with escapes like `\\xe9`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from seamless.errors import InterruptedStageError, StageError, UnavailableError, UsageError


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to get at a private repository. Resolved late; never logged, never in argv, never on disk.

    `token` goes to the repository's own scheme, host and port (https or http), with `username`, and
    nowhere that these redirect to. `key_file` goes to ssh; with `known_hosts`, only the host keys in
    that file are accepted; without it a host is believed the first time and held to its key then.
    """

    username: str = "git"
    token: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    known_hosts: Path | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """A git remote: https, http, ssh, git or file URL, scp-like address (`git@host:path`), or an absolute path.

    User and password in an http URL are taken out of it and used like `credentials`.
    """

    url: str = field(repr=False)
    credentials: Credentials = Credentials()

    @property
    def shown(self) -> str:
        """The URL as it may be logged: without user and password."""
        return re.sub(r"(?<=://).*@", "", self.url, flags=re.DOTALL)

    def __str__(self) -> str:
        return self.shown


@dataclass(frozen=True, slots=True)
class Resolved:
    """A ref as it is on the remote now. `ref` is full ("refs/heads/main"), or the commit itself for a SHA."""

    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    commit: str
    subject: str
    author: str
    committed_at: datetime
    message: str  # whole, its subject included


@dataclass(frozen=True, slots=True)
class StoredMirror:
    """What is kept of one repository."""

    folder: Path
    address: str
    fetched_at: datetime  # the last time that something new was fetched


class RefNotFoundError(UsageError):
    """The remote has no such branch, tag, ref or commit, or a short SHA is ambiguous; the message says which.

    `candidates` are what may have been meant: refs, or the full SHAs that a short one stands for.
    """

    def __init__(self, message: str, *, candidates: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)


class RemoteProblem(StrEnum):
    """Why a remote could not be used. The first three pass by themselves, the next two need a person."""

    UNREACHABLE = "unreachable"
    STALLED = "stalled"
    LIMITED = "limited"  # asked too often; it says when it may be asked again
    REFUSED = "refused"  # the credentials, or this side's trust in the host's key or certificate
    NOT_FOUND = "not_found"
    OTHER = "other"


class RemoteUnavailableError(UnavailableError):
    """The remote cannot be reached, stalls, or refuses the credentials: `problem` says which."""

    def __init__(self, message: str, problem: RemoteProblem, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


class CommitGoneError(StageError):
    """The commit is no longer to be had from the remote, or was never fetched."""


class MergeConflictError(StageError):
    """The head does not merge onto its base; `files` names what conflicts."""

    def __init__(self, message: str, files: Sequence[str]) -> None:
        super().__init__(message)
        self.files = tuple(files)


class MirrorDamagedError(InterruptedStageError):
    """The mirror's objects are damaged (a disk or power failure); the next `fetch` makes it anew."""


class Forge(Protocol):
    """Every method raises UsageError for a URL, ref, pattern or SHA that git must not see."""

    async def heads(self, repository: Repository, patterns: Sequence[str]) -> Mapping[str, str]:
        """Full ref name -> commit of the remote's refs that match a pattern, as `git ls-remote` matches:
        "refs/heads/main" exactly or as the end of a longer name, with `*`. Annotated tags are peeled.
        Raises RemoteUnavailableError."""

    async def resolve(self, repository: Repository, ref: str) -> Resolved:
        """A branch, tag, full ref, HEAD, or (short) SHA, as the remote has it now. A branch goes before a
        tag of the same name, both before a SHA; annotated tags are peeled; HEAD becomes the branch.
        Raises RefNotFoundError, RemoteUnavailableError."""

    async def fetch(self, repository: Repository, commit: str, ref: str, spool: Path | None = None) -> None:
        """Makes `commit` and its history present in the mirror (no network when it is). `ref` is where
        to look for it on servers that do not serve a bare SHA. git's progress goes to `spool`.
        Raises CommitGoneError, RemoteUnavailableError."""

    async def merge(self, repository: Repository, head: str, base: str) -> str:
        """The commit that merging `head` onto `base` gives, both in the mirror: `head` itself when it
        contains `base`, `base` when that contains `head`, else a commit that is the same for the same
        two. Raises MergeConflictError, StageError (unrelated histories), CommitGoneError."""

    async def checkout(self, repository: Repository, commit: str, files: Path, index: Path) -> int:
        """Makes the folder `files` exactly the commit's tree, fast when `index` (a file that only this
        method uses, with others beside it that begin with its name) describes what is there already;
        returns the number of files changed. Whatever was half done before is mended. Submodules become
        empty folders, LFS pointers stay pointers. The folder must not be in use.
        Raises CommitGoneError, MirrorDamagedError, StageError (a tree that git refuses)."""

    async def info(self, repository: Repository, commit: str) -> CommitInfo:
        """Raises CommitGoneError."""

    async def log(self, repository: Repository, base: str | None, head: str, limit: int = 50) -> list[CommitInfo]:
        """Commits reachable from head and not from base, newest first. Raises CommitGoneError."""

    async def is_ancestor(self, repository: Repository, ancestor: str, descendant: str) -> bool:
        """False when either is unknown to the mirror; a commit is its own ancestor."""

    async def is_on_a_branch(self, repository: Repository, commit: str) -> bool:
        """Whether a branch or tag that the remote has now contains the commit. Many forges give out by its SHA what
        strangers pushed to forks or pull requests: such a commit is on none. Raises RemoteUnavailableError."""

    async def merge_base(self, repository: Repository, one: str, other: str) -> str | None:
        """The newest commit that both have in their history; None when there is none. Raises CommitGoneError."""

    async def changed_files(self, repository: Repository, base: str, head: str) -> list[str]:
        """Paths that differ between the two trees, both names of what was moved. Raises CommitGoneError."""

    async def maintain(self, repository: Repository) -> None:
        """Packs the mirror when it is due (for idle times; holds up the mirror's fetches meanwhile)."""

    async def other_mirrors(self, urls: Collection[str]) -> list[StoredMirror]:
        """Those of none of these repositories, and what is left of mirrors that were half made or half removed."""

    async def forget(self, mirror: StoredMirror) -> None:
        """Removes a mirror, whole or not at all for whoever comes next. Waits for a fetch into it. Raises OSError."""
