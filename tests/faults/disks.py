"""Small disks of our own, and what fills them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[None]:
    """A disk of `size` (as mount takes it: "64m") mounted there, as root."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


class Filler:
    """A file that takes what is free."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "filler"

    def leave(self, size: int) -> None:
        """Takes all but `size` bytes."""
        found = os.statvfs(self._file.parent)
        free = found.f_bavail * found.f_frsize
        with open(self._file, "ab") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), file.tell(), free - size)

    def go(self) -> None:
        self._file.unlink()
