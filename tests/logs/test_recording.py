"""From spool to log while both grow: redaction, order, followers, cancelling, failing disks, odd stages."""

from __future__ import annotations

import asyncio
import os
import resource
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from seamless.agent.logs import LogId, LogStore
from seamless.errors import ProgrammingError, StageError, UnavailableError
from seamless.model import StageName

LOG = LogId("payment-42", StageName.UNIT_TEST)
SECRET = "hunter2-hunter2"
MIB = 1024 * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "payment-42" / "unit_test.1" / "out"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = LogStore(tmp_path / "logs", 1 << 30)
    yield store
    store.close()


def append(spool: Path, data: bytes) -> None:
    with open(spool, "ab", buffering=0) as out:
        out.write(data)


async def until_size(store: LogStore, size: int) -> None:
    async with asyncio.timeout(60):
        while await store.size(LOG) < size:  # noqa: ASYNC110 - the test must not rely on the store's own events
            await asyncio.sleep(0.002)


async def stage_runs() -> bool:
    return False


def test_what_a_stage_writes_is_in_the_log_redacted(store: LogStore, spool: Path) -> None:
    async def main() -> bytes:
        async with store.record(LOG, 1, spool, [SECRET]) as recording:
            await recording.line(f"fetched with {SECRET}")
            append(spool, b"token: hunter2-")
            await until_size(store, 34)
            append(spool, b"hunter2\nbinary: \x00\xff\nhunter")
        return await store.read(LOG, 0, 1000)

    assert asyncio.run(main()) == b"seamless: fetched with ***\ntoken: ***\nbinary: \x00\xff\nhunter"
    assert spool.stat().st_mode & 0o777 == 0o622, "a stage under another user can append"
    assert spool.parent.stat().st_mode & 0o777 == 0o700, "and nobody else can come near it"


def test_the_agents_lines_come_after_what_was_written_before_them(store: LogStore, spool: Path) -> None:
    async def main() -> bytes:
        async with store.record(LOG, 1, spool) as recording:
            for number in range(20):
                append(spool, b"out %d\n" % number * 100)
                await recording.line(f"after {number}")
        return await store.read(LOG, 0, MIB)

    expected = b"".join(b"out %d\n" % n * 100 + b"seamless: after %d\n" % n for n in range(20))
    assert asyncio.run(main()) == expected


def test_followers_get_every_byte_as_it_comes(store: LogStore, spool: Path) -> None:
    async def main() -> None:
        async def follow(offset: int, nap_s: float) -> bytes:
            parts = []
            async for chunk in store.follow(LOG, offset, stage_runs, chunk=1000):
                parts.append(chunk)
                await asyncio.sleep(nap_s)
            return b"".join(parts)

        followers = [asyncio.create_task(follow(*one)) for one in ((0, 0), (0, 0.01), (500, 0))]
        written = b""
        async with store.record(LOG, 1, spool):
            for number in range(50):
                piece = b"%d " % number * 100
                written += piece
                append(spool, piece)
                await asyncio.sleep(0.002)
        async with store.record(LOG, 2, spool.parent / "2"):
            append(spool.parent / "2", b"again\n")
        written += b"\nseamless: attempt 2\nagain\n"
        assert not followers[1].done(), "another attempt is no end"
        store.end(LOG)
        assert await asyncio.gather(*followers) == [written, written, written[500:]]

    asyncio.run(main())


def test_a_line_reaches_followers_soon(store: LogStore, spool: Path) -> None:
    async def main() -> list[float]:
        delays = []
        chunks = store.follow(LOG, 0, stage_runs)
        async with store.record(LOG, 1, spool):
            for _ in range(20):
                await asyncio.sleep(0.01)
                append(spool, b"line\n")
                written = time.perf_counter()
                assert await anext(chunks) == b"line\n"
                delays.append(time.perf_counter() - written)
        await chunks.aclose()  # type: ignore[attr-defined]
        return delays

    assert min(asyncio.run(main())) < 0.05, "at best, since this machine may be busy"


def test_an_error_in_the_stage_still_records_its_output(store: LogStore, spool: Path) -> None:
    async def main() -> bytes:
        async def fail() -> None:
            async with store.record(LOG, 1, spool):
                append(spool, b"why it failed\n")
                raise StageError("exit code 1")

        with pytest.raises(StageError, match="exit code 1"):
            await fail()
        return await store.read(LOG, 0, 100)

    assert asyncio.run(main()) == b"why it failed\n"


def test_cancelling_leaves_the_rest_for_the_next_agent(store: LogStore, spool: Path) -> None:
    async def main() -> None:
        async def record() -> None:
            async with store.record(LOG, 1, spool, [SECRET]):
                await asyncio.sleep(60)

        spool.parent.mkdir(parents=True)
        append(spool, b"one hunter2-")
        task = asyncio.create_task(record())
        await until_size(store, 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.read(LOG, 0, 100) == b"one ", "what may be a secret is not decided by stopping"
        append(spool, b"hunter2 two\n")
        async with store.record(LOG, 1, spool, [SECRET]):
            pass
        assert await store.read(LOG, 0, 100) == b"one *** two\n"
        async with store.record(LOG, 1, spool, [SECRET]):
            append(spool, b"a late line\n")
        assert await store.read(LOG, 0, 100) == b"one *** two\na late line\n"

    asyncio.run(main())


def test_two_recordings_of_one_log_are_refused(store: LogStore, spool: Path) -> None:
    async def main() -> None:
        async with store.record(LOG, 1, spool):
            with pytest.raises(ProgrammingError, match="payment-42 unit_test is being recorded already"):
                async with store.record(LOG, 1, spool):
                    pass
            append(spool, b"undisturbed")
        assert await store.read(LOG, 0, 100) == b"undisturbed"

    asyncio.run(main())


def test_a_stage_that_cuts_its_spool_is_followed_from_the_new_beginning(store: LogStore, spool: Path) -> None:
    async def main() -> bytes:
        async with store.record(LOG, 1, spool, [SECRET]) as recording:
            append(spool, b"before hunter")
            await recording.line("seen")
            os.truncate(spool, 0)
            append(spool, b"after\n")
            await recording.line("seen")
        return await store.read(LOG, 0, 1000)

    assert asyncio.run(main()) == (
        b"before \nseamless: seen\nhunter\nseamless: the stage cut off its own output here\nafter\nseamless: seen\n"
    )


def test_a_stage_that_takes_its_spool_away_costs_only_its_own_log(
    store: LogStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root in a container can do that to an agent that is not root; this test may be root, so `open` refuses."""
    really_open = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if path == spool:
            raise PermissionError(13, "Permission denied")
        return really_open(path, flags, mode)

    async def main() -> bytes:
        async with store.record(LOG, 1, spool):
            append(spool, b"before\n")
        monkeypatch.setattr(os, "open", refuse)
        async with store.record(LOG, 1, spool) as recording:
            await recording.line("still here")
        return await store.read(LOG, 0, 1000)

    assert asyncio.run(main()) == (b"before\nseamless: the stage cut off its own output here\nseamless: still here\n")


def test_a_log_that_cannot_be_written_for_a_while_misses_nothing(
    store: LogStore, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seamless.agent.logs.recording._RETRY_AFTER_S", 0.02)
    log = tmp_path / "logs" / "payment" / "payment-42" / "unit_test.log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    output = b"0123456789\n" * 1000

    async def main() -> bytes:
        async with store.record(LOG, 1, spool) as recording:
            append(spool, output)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # a full disk, as the kernel tells it
            try:
                with pytest.raises(UnavailableError, match="log of payment-42 unit_test cannot be written"):
                    await recording.line("refused")
                await asyncio.sleep(0.1)
                assert log.stat().st_size == 0
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            await until_size(store, len(output) + 10)
        return await store.read(LOG, 0, MIB)

    assert asyncio.run(main()) == output + b"seamless: the log could not be written for 0 s\n"


def test_leaving_while_the_disk_is_full_says_so_and_can_be_repeated(store: LogStore, spool: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    output = b"0123456789\n" * 1000

    async def main() -> bytes:
        async def record_on_a_full_disk() -> None:
            async with store.record(LOG, 1, spool):
                append(spool, output)
                resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))

        with pytest.raises(UnavailableError, match="File too large"):
            await record_on_a_full_disk()
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        async with store.record(LOG, 1, spool):
            pass
        return await store.read(LOG, 0, MIB)

    try:
        assert asyncio.run(main()) == output
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_line_without_end_takes_neither_memory_nor_disk(store: LogStore, spool: Path) -> None:
    piece = b"x" * MIB

    async def main() -> None:
        async with store.record(LOG, 1, spool, [SECRET]) as recording:
            for _ in range(5):
                for _ in range(10):
                    append(spool, piece)
                await recording.line("so far")
            assert spool.stat().st_size == 50 * MIB
            assert spool.stat().st_blocks * 512 < 4 * MIB, "what was recorded is given back"
        taken = 0
        async for chunk in store.follow(LOG, 0, stage_over):
            taken += len(chunk)
        assert taken == await store.size(LOG) > 50 * MIB

    async def stage_over() -> bool:
        return True

    tracemalloc.start()
    try:
        asyncio.run(main())
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
