"""Plain git: the forge for anything that git can fetch from."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from seamless import programs
from seamless.errors import UnavailableError
from seamless.forges import (
    CommitGoneError,
    CommitInfo,
    MirrorDamagedError,
    RefNotFoundError,
    Repository,
    Resolved,
    StoredMirror,
    history,
    symptoms,
)
from seamless.forges.checkout import check_out
from seamless.forges.git_commands import NetworkCommands
from seamless.forges.mirror import Mirror, Seen, ask, other_mirrors, remove_mirror
from seamless.forges.remotes import COMMIT, SHORT_COMMIT, Remote, check_commit, check_pattern, check_ref, parse

_OLDEST_GIT: Final = (2, 38)  # merge-tree --write-tree
_PEELED: Final = "^{}"  # what git ls-remote appends to the name of a tag for the commit it stands for
_MOST_CANDIDATES: Final = 5


class GitForge:
    """The `Forge` that runs git. `mirrors` is a folder of the agent's own (0700), which one agent uses at a time.

    A remote that sends nothing for `low_speed_s`, or is not done after `timeout_s`, is given up.
    `ca_bundle` is what https servers are checked against, the system's when None.
    """

    def __init__(
        self, mirrors: Path, *, low_speed_s: float = 30, timeout_s: float = 600, ca_bundle: Path | None = None
    ) -> None:
        self._commands = NetworkCommands(mirrors, low_speed_s, ca_bundle)
        self._timeout_s = timeout_s
        self._mirror_locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tree_locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._git_is_new_enough = False
        self._seen = Seen()

    async def heads(self, repository: Repository, patterns: Sequence[str]) -> Mapping[str, str]:
        """See `Forge`."""
        for pattern in patterns:
            check_pattern(pattern)
        remote = await self._remote(repository)
        return _peel(await self._list(remote, self._commands.list_refs(remote, patterns)))

    async def resolve(self, repository: Repository, ref: str) -> Resolved:
        """See `Forge`."""
        check_ref(ref)
        remote = await self._remote(repository)
        if COMMIT.fullmatch(ref.lower()):
            return await self._resolve_commit(repository, remote, ref.lower())
        if ref == "HEAD":
            return await self._resolve_head(remote)
        if ref.startswith("refs/"):
            refs = _peel(await self._list(remote, self._commands.list_refs(remote, [ref, ref + _PEELED])))
        else:
            refs = _peel(await self._list(remote, self._commands.list_branches_and_tags(remote)))
        for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}"):
            if name in refs:
                return Resolved(name, refs[name])
        if SHORT_COMMIT.fullmatch(ref) and refs:
            return await self._resolve_short(remote, ref.lower(), sha_length=len(next(iter(refs.values()))))
        raise _not_found(remote, ref, refs)

    async def fetch(self, repository: Repository, commit: str, ref: str, spool: Path | None = None) -> None:
        """See `Forge`."""
        check_commit(commit)
        check_ref(ref)
        mirror = await self._mirror(repository)
        if await mirror.has(commit):
            return
        lock = self._mirror_locks[mirror.path]
        somebody_fetches = lock.locked()
        async with lock:
            if somebody_fetches and await mirror.has(commit):
                return
            try:
                await mirror.fetch(commit, ref, spool)
            except MirrorDamagedError:
                await mirror.fetch(commit, ref, spool)  # into a new mirror

    async def merge(self, repository: Repository, head: str, base: str) -> str:
        """See `Forge`."""
        check_commit(head)
        check_commit(base)
        return await history.merge(await self._mirror(repository), head, base)

    async def checkout(self, repository: Repository, commit: str, files: Path, index: Path) -> int:
        """See `Forge`."""
        check_commit(commit)
        mirror = await self._mirror(repository)
        async with self._tree_locks[files]:
            return await check_out(mirror, commit, files, index)

    async def info(self, repository: Repository, commit: str) -> CommitInfo:
        """See `Forge`."""
        return (await self.log(repository, None, commit, limit=1))[0]

    async def log(self, repository: Repository, base: str | None, head: str, limit: int = 50) -> list[CommitInfo]:
        """See `Forge`."""
        for commit in (head, *([base] if base is not None else [])):
            check_commit(commit)
        return await history.log(await self._mirror(repository), base, head, limit)

    async def is_ancestor(self, repository: Repository, ancestor: str, descendant: str) -> bool:
        """See `Forge`."""
        check_commit(ancestor)
        check_commit(descendant)
        return await history.is_ancestor(await self._mirror(repository), ancestor, descendant)

    async def is_on_a_branch(self, repository: Repository, commit: str) -> bool:
        """See `Forge`."""
        check_commit(commit)
        mirror = await self._mirror(repository)
        async with self._mirror_locks[mirror.path]:
            await mirror.fetch_all(len(commit))
        return await mirror.has(commit) and await history.is_on_a_branch(mirror, commit)

    async def merge_base(self, repository: Repository, one: str, other: str) -> str | None:
        """See `Forge`."""
        check_commit(one)
        check_commit(other)
        return await history.merge_base(await self._mirror(repository), one, other)

    async def changed_files(self, repository: Repository, base: str, head: str) -> list[str]:
        """See `Forge`."""
        check_commit(base)
        check_commit(head)
        return await history.changed_files(await self._mirror(repository), base, head)

    async def maintain(self, repository: Repository) -> None:
        """See `Forge`."""
        mirror = await self._mirror(repository)
        async with self._mirror_locks[mirror.path]:
            await mirror.maintain()

    async def other_mirrors(self, urls: Collection[str]) -> list[StoredMirror]:
        """See `Forge`."""
        keys = {parse(Repository(url)).key for url in urls}
        return await asyncio.to_thread(other_mirrors, self._commands.folder, keys)

    async def forget(self, mirror: StoredMirror) -> None:
        """See `Forge`."""
        async with self._mirror_locks[mirror.folder]:
            await asyncio.to_thread(remove_mirror, mirror.folder)

    async def _remote(self, repository: Repository) -> Remote:
        remote = parse(repository)
        if not self._git_is_new_enough:
            await _check_git()
            self._commands.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._git_is_new_enough = True
        return remote

    async def _mirror(self, repository: Repository) -> Mirror:
        return Mirror(await self._remote(repository), self._commands, self._seen, timeout_s=self._timeout_s)

    async def _list(self, remote: Remote, plan: programs.Program) -> Sequence[tuple[str, str]]:
        """(name, value) pairs in the remote's order; a symbolic ref's value is "ref: <target>"."""
        result = await ask(plan, remote, low_speed_s=self._commands.low_speed_s, timeout_s=self._timeout_s)
        if result.exit_code != 0:
            raise symptoms.explain(remote, result.stderr)
        lines = result.stdout.decode(errors="backslashreplace").split("\n")
        pairs = (line.split("\t", 1) for line in lines if "\t" in line)
        return [(name, value) for value, name in pairs]

    async def _resolve_head(self, remote: Remote) -> Resolved:
        listed = [pair for pair in await self._list(remote, self._commands.find_head(remote)) if pair[0] == "HEAD"]
        target = next((value.removeprefix("ref: ") for _, value in listed if value.startswith("ref: ")), "HEAD")
        for _, value in listed:
            if COMMIT.fullmatch(value):
                return Resolved(target, value)
        raise _not_found(remote, "HEAD", {})

    async def _resolve_commit(self, repository: Repository, remote: Remote, commit: str) -> Resolved:
        mirror = await self._mirror(repository)
        with contextlib.suppress(CommitGoneError):
            await self.fetch(repository, commit, ref=commit)
            peeled = await history.peel(mirror, commit)  # it may be the SHA of a tag, or of a file
            if peeled is not None:
                return Resolved(peeled, peeled)
        raise _not_found(remote, commit, {})

    async def _resolve_short(self, remote: Remote, prefix: str, sha_length: int) -> Resolved:
        mirror = Mirror(remote, self._commands, self._seen, timeout_s=self._timeout_s)
        async with self._mirror_locks[mirror.path]:
            await mirror.fetch_all(sha_length)
        commits = await history.commits_with_prefix(mirror, prefix)
        if len(commits) == 1:
            return Resolved(commits[0], commits[0])
        if not commits:
            raise _not_found(remote, prefix, {})
        shown = ", ".join(commits[:_MOST_CANDIDATES])
        raise RefNotFoundError(
            f"{prefix} is ambiguous in {remote.address}: {len(commits)} commits begin with it",
            candidates=commits,
            hint=f"give more of it: {shown}",
        )


async def _check_git() -> None:
    """Raises UnavailableError when git is missing or too old to merge without a working tree."""
    result = await programs.capture(programs.Program(["git", "version"], programs.base_environment()), timeout_s=30)
    found = re.search(rb"(\d+)\.(\d+)", result.stdout)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GIT:
        said = result.stdout.decode(errors="replace").strip() or result.message
        raise UnavailableError(
            f"git {_OLDEST_GIT[0]}.{_OLDEST_GIT[1]} or later is needed, this host has {said!r}",
            hint="install a newer git",
        )


def _peel(listed: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Full ref name -> commit. What a tag stands for is listed after the tag, and takes its place."""
    return {name.removesuffix(_PEELED): value for name, value in listed}


def _not_found(remote: Remote, ref: str, refs: Mapping[str, str]) -> RefNotFoundError:
    names = {name.split("/", 2)[-1]: name for name in refs}
    candidates = [names[name] for name in difflib.get_close_matches(ref, names, n=_MOST_CANDIDATES)]
    shown = ", ".join(name.split("/", 2)[-1] for name in candidates)
    return RefNotFoundError(
        f"{remote.address} has no branch, tag or commit {ref!r}",
        candidates=candidates,
        hint=f"did you mean {shown}?" if shown else "was it pushed, and to this repository?",
    )
