"""A kept tree: a folder that is made exactly one commit's tree, at the cost of what changed.

Three things lie beside each other: the folder, git's index (which remembers what it wrote, so that
a file that is still the same costs one `lstat`), and `<index>.commit`, which says which commit the
folder equals. The last is removed before anything is touched and written after everything is done:
without it the folder is made anew. It is not mended in place, because a git that was killed may have
left a worker behind that still writes the old commit's files; that one writes into the discarded
folder then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from seamless.errors import StageError, UnavailableError
from seamless.forges import git_commands
from seamless.forges.mirror import Mirror
from seamless.forges.remotes import COMMIT

_ATTRIBUTES: Final = ".gitattributes"


async def check_out(mirror: Mirror, commit: str, files: Path, index: Path) -> int:
    """See `Forge.checkout`. Must not run twice at once for one folder."""
    state = index.with_name(f"{index.name}.commit")
    changed = await _changes(mirror, _read_state(state), commit) if index.exists() and files.is_dir() else None
    state.unlink(missing_ok=True)
    if changed is None or any(os.path.basename(path) == _ATTRIBUTES.encode() for path in changed):
        # attributes decide how other files are written, and git would not write those again
        await asyncio.to_thread(_start_anew, files, index)
        changed = _split(await _output(mirror, "ls-tree", "-r", "-z", "--name-only", commit))
    index.with_name(f"{index.name}.lock").unlink(missing_ok=True)
    try:
        await mirror.run(git_commands.read_tree(mirror.path, commit, files, index))
    except UnavailableError as error:
        await mirror.require(commit)
        raise StageError(f"git could not write the tree of {commit}: {error.message}", hint=error.hint) from error
    _write_state(state, commit)
    return len(changed)


async def _changes(mirror: Mirror, before: str | None, commit: str) -> Sequence[bytes] | None:
    """The paths that differ; None when it is not known what is there."""
    if before is None or not await mirror.has(before):
        return None
    return [] if before == commit else _split(await _output(mirror, *tree_difference(before, commit)))


def tree_difference(base: str, head: str) -> tuple[str, ...]:
    """The git arguments that list the paths in which two trees differ, NUL-terminated."""
    return ("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, head)


async def _output(mirror: Mirror, *arguments: str) -> bytes:
    return (await mirror.run(git_commands.local(mirror.path, *arguments))).stdout


def _split(paths: bytes) -> Sequence[bytes]:
    return [path for path in paths.split(b"\0") if path]


def _start_anew(files: Path, index: Path) -> None:
    """Leaves an empty folder and no index. A folder that cannot be removed at once is removed the next time."""
    files.parent.mkdir(parents=True, exist_ok=True)
    index.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        files.rename(files.with_name(f"{files.name}.gone-{secrets.token_hex(4)}"))
    for discarded in files.parent.glob(f"{files.name}.gone-*"):
        shutil.rmtree(discarded, ignore_errors=True)
    files.mkdir()
    files.chmod(0o755)  # whatever the agent's umask


def _read_state(state: Path) -> str | None:
    try:
        commit = state.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _write_state(state: Path, commit: str) -> None:
    """Whole or not at all."""
    new = state.with_name(f"{state.name}.new")
    new.write_text(commit, encoding="ascii")
    new.replace(state)
