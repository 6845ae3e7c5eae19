"""The file that a stage writes its output to, from the reader's side."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_KEEP_SIZE_AND_PUNCH_HOLE: Final = 0x01 | 0x02
_BLOCK: Final = 4096
_RELEASE_STEP: Final = 1024 * 1024  # so that giving back the disk costs nothing beside reading it
_KEPT_TAIL: Final = 128 * 1024  # for stages that look for the reason of a failure in what a program printed last

_fallocate: Final = ctypes.CDLL(None).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Spool:
    """Opens `path`, and makes it when it is not there: writable by a stage under any user, in a folder of the
    agent's alone. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(self._fd, 0o622)
        self._released = 0
        self._can_release = True

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, offset: int, limit: int) -> bytes:
        return os.pread(self._fd, limit, offset)

    def release(self, offset: int) -> None:
        """Gives back the disk of all well before `offset`; the file's size and offsets stay."""
        end = max(0, offset - _KEPT_TAIL)
        end -= end % _BLOCK
        if end < self._released:  # the file was cut
            self._released = 0
        if self._can_release and end - self._released >= _RELEASE_STEP:
            done = _fallocate(self._fd, _KEEP_SIZE_AND_PUNCH_HOLE, self._released, end - self._released)
            self._can_release = done == 0  # else the file system does not know holes
            self._released = end

    def close(self) -> None:
        os.close(self._fd)
