"""Files that a stage leaves for people: reports, screenshots, coverage. Kept as one archive beside the stage's log.

What comes out of a container is hostile: only regular files inside the workspace are taken, links never, and how much
is bounded. They are kept as they are: nothing in them is masked.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

MAX_BYTES: Final = 256 * 2**20  # of one stage, before they are compressed
MAX_FILES: Final = 10_000


def keep_artifacts(folder: Path, patterns: Sequence[str], archive: Path) -> dict[str, Any]:
    """Writes what matches to `archive`, a gzipped tar, and returns the stage's evidence. Blocks. Raises nothing: what
    cannot be kept is told, and is no failing of the stage."""
    if not patterns:
        return {}
    part = archive.with_suffix(".part")
    files = size = 0
    notes: list[str] = []
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(part, "w:gz", compresslevel=3) as target:
            for path in _matching(folder, patterns):
                name = str(path.relative_to(folder))
                try:
                    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                        found = os.fstat(file.fileno())
                        if not stat.S_ISREG(found.st_mode):
                            continue
                        if files == MAX_FILES or size + found.st_size > MAX_BYTES:
                            notes.append(f"only the first {files} files are kept: the rest is too much")
                            break
                        entry = tarfile.TarInfo(name)
                        entry.size, entry.mode, entry.mtime = found.st_size, 0o644, int(found.st_mtime)
                        target.addfile(entry, file)
                except PermissionError:
                    notes.append(f"{name} is closed to the agent")
                    continue
                files, size = files + 1, size + found.st_size
        part.rename(archive)
    except OSError as error:
        files = size = 0
        notes = [f"they could not be kept: {error.strerror or error}"]
    finally:
        part.unlink(missing_ok=True)
    if not files:
        archive.unlink(missing_ok=True)
        notes = notes or [f"nothing matches {', '.join(patterns)}"]
    return {"artifacts": {"files": files, "bytes": size, "note": "; ".join(notes[:5]) or None}}


def _matching(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """In order, each once; what a link leads to is not the workspace's."""
    root = folder.resolve()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if not path.is_symlink() and path.is_file() and path.resolve().is_relative_to(root):
            yield path
