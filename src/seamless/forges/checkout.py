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

from seamless.errors import HostError, StageError, UnavailableError
from seamless.forges import git_commands
from seamless.forges.mirror import Mirror
from seamless.forges.remotes import COMMIT
from seamless.programs import Captured

_ATTRIBUTES: Final = b".gitattributes"


async def check_out(mirror: Mirror, commit: str, files: Path, index: Path) -> int:
    """See `Forge.checkout`. Must not run twice at once for one folder."""
    state = index.with_name(f"{index.name}.commit")
    changed = await _changes(mirror, _read_state(state), commit) if index.exists() and files.is_dir() else None
    if changed is not None:
        try:
            await _write_tree(mirror, commit, files, index, state)
            return len(changed)
        except HostError:
            raise
        except UnavailableError:
            pass  # an index that git cannot read, for example
    await mirror.require(commit)
    paths = _split(await mirror.run(git_commands.local(mirror.path, "ls-tree", "-r", "-z", "--name-only", commit)))
    state.unlink(missing_ok=True)
    await asyncio.to_thread(_start_anew, files, index)
    try:
        await _write_tree(mirror, commit, files, index, state)
    except HostError:
        raise
    except UnavailableError as error:
        raise StageError(f"git could not write the tree of {commit}: {error.message}", hint=error.hint) from error
    return len(paths)


def tree_difference(base: str, head: str) -> tuple[str, ...]:
    """The git arguments that list the paths in which two trees differ, NUL-terminated."""
    return ("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, head)


async def _changes(mirror: Mirror, before: str | None, commit: str) -> Sequence[bytes] | None:
    """What differs from the commit that is there; None when only a new tree can be right."""
    if before is None:
        return None
    result = await mirror.run(git_commands.local(mirror.path, *tree_difference(before, commit)), allowed=(0, 128))
    if result.exit_code != 0:
        return None
    paths = _split(result)
    # Attributes decide how other files are written, and git would not write those again.
    return None if any(os.path.basename(path) == _ATTRIBUTES for path in paths) else paths


async def _write_tree(mirror: Mirror, commit: str, files: Path, index: Path, state: Path) -> None:
    state.unlink(missing_ok=True)
    index.with_name(f"{index.name}.lock").unlink(missing_ok=True)
    await mirror.run(git_commands.read_tree(mirror.path, commit, files, index))
    await mirror.run(git_commands.clean(mirror.path, files, index))
    new = state.with_name(f"{state.name}.new")
    new.write_text(commit, encoding="ascii")
    new.replace(state)


def _split(listed: Captured) -> Sequence[bytes]:
    return [path for path in listed.stdout.split(b"\0") if path]


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
