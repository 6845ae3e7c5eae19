"""Where code comes from: the interface of a forge.

A forge is made for the installation; each call names a repository. All git work goes through a bare
mirror that is kept per repository URL; calls for one repository are serialised inside, calls for
different ones run side by side. Everything is idempotent; cancelling a call kills git and leaves a
mirror that the next call can use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from seamless.errors import StageError, UnavailableError, UsageError


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to get at a private repository. Resolved late; never logged, never in argv.

    `token` goes to https remotes only (with `username`), `key_file` (and `known_hosts`) to ssh.
    """

    username: str = "git"
    token: str | None = None
    key_file: Path | None = None
    known_hosts: Path | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """A git remote: https, ssh, git, file URL, scp-like address, or a local path."""

    url: str
    credentials: Credentials = Credentials()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A ref as it is on the remote now. `ref` is full ("refs/heads/main"), or the commit itself for a bare SHA."""

    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    commit: str
    subject: str
    author: str
    committed_at: datetime


class RefNotFoundError(UsageError):
    """The remote has no such branch, tag, ref or commit, or a short SHA is ambiguous; the message says which."""


class RemoteUnavailableError(UnavailableError):
    """The remote cannot be reached, stalls, or refuses the credentials."""


class CommitGoneError(StageError):
    """The commit is no longer to be had from the remote."""


class MergeConflictError(StageError):
    """The head does not merge onto its base; `files` names what conflicts."""

    def __init__(self, message: str, files: Sequence[str]) -> None:
        super().__init__(message)
        self.files = tuple(files)


class Forge(Protocol):
    async def heads(self, repository: Repository, patterns: Sequence[str]) -> Mapping[str, str]:
        """Full ref name -> SHA of the remote's refs that match (`git ls-remote` patterns)."""

    async def resolve(self, repository: Repository, ref: str) -> Resolved:
        """A branch, tag, full ref, or (short) SHA, as the remote has it now. Raises RefNotFoundError."""

    async def fetch(self, repository: Repository, commit: str, ref: str, spool: Path | None = None) -> None:
        """Makes `commit` present in the mirror (no network when it is). git's progress goes to `spool`.
        Raises CommitGoneError, RemoteUnavailableError."""

    async def merge(self, repository: Repository, head: str, base: str) -> str:
        """The commit that merging `head` onto `base` gives (made in the mirror, deterministic for the
        same two). Raises MergeConflictError."""

    async def checkout(self, repository: Repository, commit: str, files: Path, index: Path) -> int:
        """Makes `files` exactly the commit's tree, fast when `index` describes what is there already;
        returns the number of files changed. Whatever was half done before is mended."""

    async def info(self, repository: Repository, commit: str) -> CommitInfo: ...

    async def log(self, repository: Repository, base: str | None, head: str, limit: int = 50) -> list[CommitInfo]:
        """Commits reachable from head and not from base, newest first."""

    async def is_ancestor(self, repository: Repository, ancestor: str, descendant: str) -> bool:
        """False when either is unknown to the mirror."""

    async def changed_files(self, repository: Repository, base: str, head: str) -> list[str]: ...
