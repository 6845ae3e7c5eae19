"""Whether there is room for new work: free space, looked at before it has run out."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from seamless.agent.store import Store
from seamless.errors import StorageError

_LOOK_AGAIN_S: Final = 2.0
_LEAST_FILES: Final = 2000  # that a file system must still be able to hold; a checkout has so many
_log = logging.getLogger(__name__)


class Room:
    """`folders`: what to call a place -> a folder in it. `least`: bytes that must be free there, 0 for no matter.

    What is short of room refuses new runs and starts no stage that writes much; what runs goes on, and so do
    deployments of what is built, above all the way back. `watch` tells when it is over.
    """

    def __init__(self, folders: Mapping[str, Path], least: Callable[[], int]) -> None:
        self._folders = folders
        self._least = least
        self._told: str | None = None  # a shortage that somebody acted on and whose end was not told yet

    def shortage(self) -> str | None:
        """Where there is too little room now, in words. One system call for each place."""
        least = self._least()
        if least:
            for what, folder in self._folders.items():
                if (short := _shortage(folder, least)) is not None:
                    self._told = f"{what} ({folder}) {short}"
                    return self._told
        return None

    def require(self) -> None:
        """Raises StorageError when there is too little room."""
        if (short := self.shortage()) is not None:
            raise StorageError(
                f"no new work is taken: {short}",
                hint="free some space there; work goes on by itself then (agent.min_free is the limit)",
            )

    async def watch(self, store: Store, roomy: Callable[[], None]) -> None:
        """For ever: tells of the beginning and the end of a shortage; calls `roomy` at its end.

        One that came and went between two looks counts as well: whoever asked meanwhile waits for its end.
        """
        recorded = False
        while True:
            short = self.shortage()
            if self._told is not None and not recorded:
                recorded = True
                _log.error("no new work is taken: %s", self._told)
                await _record(store, self._told)
            if short is None and recorded:
                recorded, self._told = False, None
                _log.warning("there is room again: work goes on")
                roomy()
                await _record(store, None)
            await asyncio.sleep(_LOOK_AGAIN_S)


async def _record(store: Store, short: str | None) -> None:
    try:
        await store.events.add("agent", "room" if short is None else "no_room", reason=short)
    except StorageError as error:
        _log.warning("%s", error.message)


def _shortage(folder: Path, least: int) -> str | None:
    try:
        found = os.statvfs(folder)
    except OSError:  # of another mount namespace, or closed to this user: nothing is known of it
        return None
    free = found.f_bavail * found.f_frsize
    if free < least:
        return f"has {_shown(free)} free, less than {_shown(least)}"
    if found.f_files and found.f_favail < _LEAST_FILES:  # some file systems do not count
        return f"can hold {found.f_favail} more files only"
    return None


def _shown(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
