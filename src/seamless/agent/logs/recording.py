"""One log that is being recorded: on the event loop; the work is done in threads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from seamless.agent.logs.follower import SpoolFollower
from seamless.errors import StorageError

_RETRY_AFTER_S: Final = 1.0
_STEPS_AT_A_TIME: Final = 4  # then readers are told, and other logs get the thread

T = TypeVar("T")


class Recording:
    """Made by `LogStore.record`; stages call `line`."""

    def __init__(
        self, what: str, follower: SpoolFollower, threads: ThreadPoolExecutor, notify: Callable[[], None]
    ) -> None:
        self._what = what
        self._follower = follower
        self._threads = threads
        self._notify = notify
        self._turn = asyncio.Lock()  # the follower is for one thread at a time
        self._grown = asyncio.Event()

    async def line(self, text: str) -> None:
        """Writes `seamless: <text>`, after all output that the spool holds now. Raises StorageError.

        The line is in the log when this returns, whatever happens to the agent then.
        """
        await self._copy_and(lambda: self._follower.line(text))

    async def finish(self) -> None:
        """Copies all that the spool holds now, and what was held back. Raises StorageError."""
        await self._copy_and(self._follower.finish)

    def look(self) -> bool:
        """Wakes `follow` when there is something to copy, and says so."""
        if not self._grown.is_set() and not self._turn.locked() and self._follower.behind():
            self._grown.set()
        return self._grown.is_set()

    async def follow(self) -> None:
        """Copies when the spool has grown, for ever. While the log cannot be written the spool keeps everything."""
        failing_since: float | None = None
        while True:
            await self._grown.wait()
            try:
                async with self._turn:
                    await self._copy()
            except OSError:
                failing_since = failing_since or time.monotonic()
                await asyncio.sleep(_RETRY_AFTER_S)
                continue
            self._grown.clear()
            if failing_since is not None:
                with contextlib.suppress(StorageError):
                    await self.line(f"the log could not be written for {time.monotonic() - failing_since:.0f} s")
                failing_since = None

    async def _copy_and(self, work: Callable[[], None]) -> None:
        async with self._turn:
            with reported(self._what):
                await self._copy()
                await in_thread(self._threads, work)
        self._notify()

    async def _copy(self) -> None:
        """What the spool holds now, however it grows meanwhile."""
        end = self._follower.end()
        while await in_thread(self._threads, lambda: self._copy_some(end)):
            self._notify()
        self._notify()

    def _copy_some(self, end: int) -> bool:
        """Whether there is more."""
        for _ in range(_STEPS_AT_A_TIME):
            if not self._follower.step():
                return False
        return not self._follower.copied_to(end)


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Says of which log an OSError is, as StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the log of {what} cannot be written: {error.strerror or error}",
            hint="look for free space and permissions in the agent's data_dir",
        ) from error


async def in_thread(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Runs to its end even when cancelled."""
    future = asyncio.get_running_loop().run_in_executor(threads, work)
    await outlast(future)
    return await future


async def outlast(future: asyncio.Future[Any]) -> None:
    """Waits for its end, also when cancelled: nothing may go on behind the back of whoever closes the files."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen: the cancellation counts
        raise cancelled
