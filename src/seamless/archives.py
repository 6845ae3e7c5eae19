"""Unpacking an archive that somebody else made: nothing is written outside of the folder.

Not by tarfile's own filters: the Python of Debian 12 has none (they came with 3.11.4), and those of later ones can be
led out of the folder (CVE-2025-4517). What is taken is little: files, folders and, where wanted, symbolic links.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeArchiveError(tarfile.TarError):
    """The archive holds what is not taken; the message names it."""


def unpack(archive: tarfile.TarFile, folder: Path, *, links: bool) -> int:
    """Unpacks into `folder`, an empty one; returns the number of files and links.

    Of a file's mode only the executable bit counts. With `links`, symbolic links are made as they are, as git does:
    they may lead anywhere. Without it one is refused. Raises tarfile.TarError and OSError; what was written stays.
    """
    count = 0
    found_links: list[tuple[PurePosixPath, str]] = []
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise UnsafeArchiveError(f"{member.name!r} leads out of the folder")
        if member.isdir():
            _make_folders(folder, path)
            continue
        if links and member.issym():
            found_links.append((path, member.linkname))
        elif member.isreg() and path.name:
            _make_folders(folder, path.parent)
            _write(archive, member, folder / path)
        else:
            raise UnsafeArchiveError(f"{member.name!r} is neither a file nor a folder")
        count += 1
    for path, target in found_links:  # last, so that no file is written by way of one
        _make_folders(folder, path.parent)
        os.symlink(target, folder / path)
    return count


def _make_folders(folder: Path, path: PurePosixPath) -> None:
    """Raises UnsafeArchiveError when something on the way is not a folder of its own, but a link to one for example."""
    for part in path.parts:
        folder /= part
        try:
            folder.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise UnsafeArchiveError(f"{str(path)!r} leads through what is no folder") from None


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    source = archive.extractfile(member)
    assert source is not None, "a regular file has content"
    with source, open(os.open(path, _NEW_FILE, mode), "wb") as target:
        shutil.copyfileobj(source, target)
