"""The logs of stages on disk: `<root>/<service>/<run>/<stage>.log`, each with its index.

A log is recorded once at a time and read by any number of readers. Readers see what an index record
covers, so a byte that was seen once stays where it is, whatever kills the agent. When its run is over, both
are packed (`packed`), and nobody who reads sees a difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from seamless.agent.logs.follower import SpoolFollower
from seamless.agent.logs.index import IndexReader, Record
from seamless.agent.logs.packed import WORTH_IT, Readable, open_readable, packed, packing
from seamless.agent.logs.recording import Recording, in_thread, outlast, reported
from seamless.agent.logs.redaction import Patterns
from seamless.agent.logs.search import Found, line_at, search, start_of_line
from seamless.agent.logs.spool import Spool
from seamless.agent.logs.writer import LogWriter
from seamless.errors import NotFoundError, ProgrammingError, StorageError, UsageError
from seamless.model import SERVICE_NAME, StageName
from seamless.patterns import compiled

_LOOK_AGAIN_S: Final = (0.01, 0.04)  # after something was seen; the longest, reached when nothing is for a while
_THREADS: Final = 4
_FOLLOW_CHUNK: Final = 256 * 1024
_SEARCHERS: Final = 2  # threads; who searches must not hold up who records
_DONE: Final = object()
_SEARCH_S: Final = 0.25  # of one call; then the client says whether it still wants to know


@dataclass(frozen=True, slots=True)
class LogId:
    """One stage of one run. Raises NotFoundError for a run that cannot be one."""

    run: str  # "<service>-<number>"
    stage: StageName

    def __post_init__(self) -> None:
        service, _, number = self.run.rpartition("-")
        if not SERVICE_NAME.fullmatch(service) or not (number.isascii() and number.isdigit()):
            raise NotFoundError(f"there is no run {self.run!r}")

    def __str__(self) -> str:
        return f"{self.run} {self.stage}"

    def path(self, root: Path) -> Path:
        return root / self.run.rpartition("-")[0] / self.run / f"{StageName(self.stage)}.log"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The bytes of a log from `offset` to the next stamp's were written at `at`."""

    offset: int
    at: datetime


@dataclass(eq=False, slots=True)
class _Follower:
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False


class LogStore:
    """All logs below `root`. `cap`: how many bytes of output one attempt of a stage may keep.

    Belongs to one event loop, and does its work in threads. A log that does not exist is an empty one:
    a stage that has not started yet. `close` it after the last recording has ended.

    One timer looks at the sizes of all spools that are recorded (one system call each): every 10 ms while
    something comes, seldomer down to 40 ms while nothing does. Against inotify that costs these
    milliseconds and less than one per cent of a core while a stage runs; it knows no limits of the host,
    works on any file system, and no stage can make it wake more often.
    """

    def __init__(self, root: Path, cap: int) -> None:
        self._root = root
        self._cap = cap
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="log")
        self._searchers = ThreadPoolExecutor(_SEARCHERS, thread_name_prefix="log search")
        self._recordings: dict[LogId, Recording | None] = {}  # None: being opened
        self._looking: asyncio.Task[None] | None = None
        self._followers: dict[LogId, set[_Follower]] = {}

    def close(self) -> None:
        self._threads.shutdown()
        self._searchers.shutdown()

    @contextlib.asynccontextmanager
    async def record(
        self, log: LogId, attempt: int, spool: Path, secrets: Sequence[str] = ()
    ) -> AsyncIterator[Recording]:
        """Copies what is written to `spool` (made when it is not there), redacted, until the block is left.

        Leaving it normally or by an error first copies all that the spool then holds, so leave it after
        the writer has ended. Leaving it by cancellation (the agent stops) does not: entering it again
        with the same arguments goes on, in this agent or the next, after a SIGKILL too. The spool may be
        removed once the block was left without cancellation.

        `attempt` counts from 1; a later one goes on in the same log, with a spool of its own.
        Raises StorageError when the log cannot be written, also on leaving: the spool then still
        holds what is missing.
        """
        if log in self._recordings:
            raise ProgrammingError(f"the log of {log} is being recorded already")
        self._recordings[log] = None
        files = contextlib.ExitStack()
        try:
            with reported(str(log)):
                follower = await in_thread(self._threads, lambda: self._open(files, log, attempt, spool, secrets))
            recording = Recording(str(log), follower, self._threads, lambda: self._notify(log))
            following = asyncio.create_task(recording.follow(), name=f"log of {log}")
            self._recordings[log] = recording
            self._look()
            try:
                yield recording
            except Exception:
                with contextlib.suppress(StorageError):  # what went wrong first is what counts
                    await recording.finish()
                raise
            else:
                await recording.finish()
            finally:
                following.cancel()
                await outlast(following)
            if not following.cancelled():
                following.result()  # it ended by an error that nobody foresaw
        finally:
            files.close()
            del self._recordings[log]

    def _open(
        self, files: contextlib.ExitStack, log: LogId, attempt: int, path: Path, secrets: Sequence[str]
    ) -> SpoolFollower:
        writer = LogWriter(log.path(self._root), attempt, self._cap)
        files.callback(writer.close)
        spool = _open_spool(path)
        files.callback(spool.close)
        return SpoolFollower(writer, spool, Patterns(secrets))

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_spools(), name="spools")

    async def _look_at_spools(self) -> None:
        shortest_s, longest_s = _LOOK_AGAIN_S
        wait_s = shortest_s
        while self._recordings:
            seen = [recording.look() for recording in self._recordings.values() if recording is not None]
            wait_s = shortest_s if any(seen) else min(1.5 * wait_s, longest_s)
            await asyncio.sleep(wait_s)

    async def size(self, log: LogId) -> int:
        return (await asyncio.to_thread(_last, log.path(self._root))).size

    async def dropped(self, log: LogId) -> int:
        """How many bytes of the last attempt's output the cap kept out of the log."""
        return (await asyncio.to_thread(_last, log.path(self._root))).dropped

    async def read(self, log: LogId, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` on; empty at the end and beyond it."""
        if offset < 0 or limit < 0:
            raise UsageError(f"no log has an offset {offset} or a length {limit}")
        return await asyncio.to_thread(_read, log.path(self._root), offset, limit)

    async def tail(self, log: LogId, limit: int) -> bytes:
        """The last `limit` bytes, or all when there are fewer."""
        path = log.path(self._root)
        return await asyncio.to_thread(lambda: _read(path, max(_last(path).size - limit, 0), limit))

    async def follow(
        self, log: LogId, offset: int, is_over: Callable[[], Awaitable[bool]], *, chunk: int = _FOLLOW_CHUNK
    ) -> AsyncIterator[bytes]:
        """The log from `offset` on, as it grows, until the stage is over and all was read.

        `is_over` is asked once, after the follower is registered: a stage that ends later is announced
        by `end`. Nothing is queued: a slow consumer reads late, and costs one chunk of memory.
        """
        follower = _Follower()
        self._followers.setdefault(log, set()).add(follower)
        try:
            if await is_over():
                follower.over = True
            while True:
                over = follower.over  # before the read: what was written before the end is in it
                follower.woken.clear()
                while data := await self.read(log, offset, chunk):
                    offset += len(data)
                    yield data
                if over:
                    return
                await follower.woken.wait()
        finally:
            others = self._followers[log]
            others.discard(follower)
            if not others:
                del self._followers[log]

    def end(self, log: LogId) -> None:
        """The stage has reached its final state: its followers end. After that state is stored; on the event loop."""
        for follower in self._followers.get(log, ()):
            follower.over = True
            follower.woken.set()

    async def times(self, log: LogId, offset: int, *, limit: int = 1000) -> list[Stamp]:
        """When the bytes from `offset` on were written, at most `limit` stamps; the first is that of `offset`."""
        return await asyncio.to_thread(_times, log.path(self._root), offset, limit)

    async def offset_at(self, log: LogId, at: datetime) -> int:
        """Where the first byte lies that was written at that time or later; the log's size when there is none."""
        return await asyncio.to_thread(_offset_at, log.path(self._root), int(at.timestamp() * 1e9))

    async def search(
        self, log: LogId, pattern: str, start: int, *, ignore_case: bool, backwards: bool, limit: int
    ) -> tuple[Found, int]:
        """Lines in which the regular expression `pattern` is found, nearest first, and the log's size.

        Looks for a moment only: see `Found.reached`. Raises UsageError for what is no regular expression.
        """
        expression = compiled(pattern, ignore_case=ignore_case)
        path = log.path(self._root)

        def look() -> tuple[Found, int]:
            size = _last(path).size
            if not size:
                return Found(0), 0
            options: dict[str, Any] = {"backwards": backwards, "limit": limit, "budget_s": _SEARCH_S}
            return search(path, size, expression, start, **options), size

        return await in_thread(self._searchers, look)

    def unpacked(self, run: str) -> list[Path]:
        """Files of the run's logs that are worth packing, and are not packed yet. A few system calls."""
        logs = [LogId(run, stage).path(self._root) for stage in StageName]
        return [file for log in logs for file in (log, log.with_suffix(".idx")) if _disk_of(file) > WORTH_IT]

    async def pack(self, run: str) -> int:
        """Packs the logs of a run that is over; returns how many bytes of disk that gave back.

        They read as before, also while it is done. Given up half-way, or failed, they are as they were. Raises
        StorageError.
        """
        if any(LogId(run, stage) in self._recordings for stage in StageName):
            raise ProgrammingError(f"a log of {run} is being recorded")
        saved = 0
        for file in self.unpacked(run):
            saved += _disk_of(file)
            with reported(run), contextlib.closing(packing(file)) as steps:
                # In steps, so that whoever searches waits for one at most.
                while await in_thread(self._searchers, partial(next, steps, _DONE)) is not _DONE:
                    pass
            saved -= _disk_of(packed(file))
        return saved

    async def line_at(self, log: LogId, offset: int) -> tuple[int, int]:
        """The number (from 1) and the start of the line that holds `offset`."""
        path = log.path(self._root)
        size = await self.size(log)
        return await in_thread(self._searchers, lambda: line_at(path, min(offset, size))) if size else (1, 0)

    async def start_of_line(self, log: LogId, number: int) -> tuple[int, int]:
        """The number and the start of that line, or of the last one."""
        path = log.path(self._root)
        size = await self.size(log)
        return await in_thread(self._searchers, lambda: start_of_line(path, size, number)) if size else (1, 0)

    def _notify(self, log: LogId) -> None:
        for follower in self._followers.get(log, ()):
            follower.woken.set()


def _open_spool(path: Path) -> Spool:
    try:
        return Spool(path)
    except PermissionError:
        # A stage that is root can take the file from an agent that is not. That costs it the rest of its log.
        return Spool(Path(os.devnull))


def _disk_of(file: Path) -> int:
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _last(path: Path) -> Record:
    try:
        with open_readable(path) as log:
            return _last_of(log, path)
    except FileNotFoundError:
        return Record()


def _last_of(log: Readable, path: Path) -> Record:
    with IndexReader(path.with_suffix(".idx")) as index:
        return index.last(log.size)[1]


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with open_readable(path) as log:
            return log.read(offset, max(0, min(limit, _last_of(log, path).size - offset)))
    except FileNotFoundError:
        return b""


def _times(path: Path, offset: int, limit: int) -> list[Stamp]:
    stamps: list[Stamp] = []
    with IndexReader(path.with_suffix(".idx")) as index:
        for number in range(index.first_after(offset), len(index)):
            record = index[number]
            if len(stamps) == limit:
                break
            if record.size > offset:
                stamps.append(Stamp(offset, datetime.fromtimestamp(record.time_ns / 1e9, UTC)))
                offset = record.size
    return stamps


def _offset_at(path: Path, time_ns: int) -> int:
    with IndexReader(path.with_suffix(".idx")) as index:
        number = index.first_since(time_ns)
        return index[number - 1].size if number else 0
