"""What is on disk: pieces and their index, recovery from any cut, the cap, attempts, times, following."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from seamless.agent.logs import LogId, LogStore
from seamless.agent.logs.index import RECORD_SIZE
from seamless.agent.logs.redaction import Position
from seamless.agent.logs.writer import LogWriter
from seamless.errors import NotFoundError, ProgrammingError, UsageError
from seamless.model import StageName

LOG = LogId("payment-42", StageName.UNIT_TEST)
CAP = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "payment" / "payment-42" / "unit_test.log"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = LogStore(tmp_path, CAP)
    yield store
    store.close()


def write(path: Path, *pieces: bytes, attempt: int = 1, cap: int = CAP) -> LogWriter:
    """Appends each piece as if it had been as long in the spool."""
    writer = LogWriter(path, attempt, cap)
    for piece in pieces:
        writer.append(piece, Position(writer.position.offset + len(piece)))
    return writer


def test_a_log_that_nobody_wrote_is_empty(store: LogStore) -> None:
    async def main() -> None:
        assert await store.size(LOG) == 0
        assert await store.dropped(LOG) == 0
        assert await store.read(LOG, 0, 10) == b""
        assert await store.tail(LOG, 10) == b""
        assert await store.times(LOG, 0) == []
        assert await store.offset_at(LOG, datetime.now(UTC)) == 0

    asyncio.run(main())


def test_reading_by_offset(store: LogStore, path: Path) -> None:
    write(path, b"hello ", b"world\n").close()

    async def main() -> None:
        assert await store.size(LOG) == 12
        assert await store.read(LOG, 0, 100) == b"hello world\n"
        assert await store.read(LOG, 3, 4) == b"lo w"
        assert await store.read(LOG, 12, 1) == b""
        assert await store.read(LOG, 1000, 1) == b""
        assert await store.tail(LOG, 6) == b"world\n"
        assert await store.tail(LOG, 100) == b"hello world\n"
        with pytest.raises(UsageError, match="offset -1"):
            await store.read(LOG, -1, 1)

    asyncio.run(main())


def test_logs_are_for_the_agent_alone(path: Path) -> None:
    write(path, b"x").close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".idx").stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("run", ["", "payment", "payment-", "-1", "../x-1", "payment-1/..", "payment-٣", "a/b-1"])
def test_a_run_that_cannot_be_one_has_no_log(run: str) -> None:
    with pytest.raises(NotFoundError):
        LogId(run, StageName.BUILD)


def test_any_cut_through_the_last_write_is_undone(store: LogStore, path: Path) -> None:
    """A killed agent may have written any part of the piece, or all of it and any part of its record."""
    write(path, b"one\n", b"two\n").close()
    index = path.with_suffix(".idx").read_bytes()
    assert len(index) == 2 * RECORD_SIZE
    for log, records in [
        *((b"one\n" + b"two\n"[:cut], index[:RECORD_SIZE]) for cut in range(5)),
        *((b"one\ntwo\n", index[: RECORD_SIZE + cut]) for cut in range(RECORD_SIZE)),
        (b"one\ntwo\n", index[:-1] + bytes([index[-1] ^ 1])),
        (b"one\ntw", index),  # power loss: the record came to disk, the piece did not
    ]:
        path.write_bytes(log)
        path.with_suffix(".idx").write_bytes(records)
        assert asyncio.run(store.read(LOG, 0, 100)) == b"one\n", "readers never see what is going to vanish"
        writer = LogWriter(path, 1, CAP)
        assert writer.position == Position(4)
        writer.append(b"TWO\n", Position(8))
        writer.close()
        assert path.read_bytes() == b"one\nTWO\n"
        assert asyncio.run(store.read(LOG, 0, 100)) == b"one\nTWO\n"


@pytest.mark.parametrize("index", [b"", b"\xff" * 10 * RECORD_SIZE, b"\0" * 10 * RECORD_SIZE])
def test_an_index_that_is_lost_takes_its_log_along(store: LogStore, path: Path, index: bytes) -> None:
    write(path, b"one\n").close()
    path.with_suffix(".idx").write_bytes(index)
    assert asyncio.run(store.size(LOG)) == 0
    writer = LogWriter(path, 1, CAP)
    assert writer.position == Position()
    writer.close()
    assert path.read_bytes() == b""


def test_the_agents_own_lines_do_not_move_the_spool(path: Path) -> None:
    writer = write(path, b"out")
    writer.append_line("kept tree\n12 files changed")
    writer.append(b"put\n", Position(7, masked=2))
    writer.append_line("done")
    writer.close()
    assert path.read_bytes() == b"out\nseamless: kept tree\nseamless: 12 files changed\nput\nseamless: done\n"
    writer = LogWriter(path, 1, CAP)
    assert writer.position == Position(7, masked=2)
    writer.close()


def test_attempts_share_a_log_and_have_spools_of_their_own(path: Path) -> None:
    write(path, b"first, broken off").close()
    writer = LogWriter(path, 2, CAP)
    assert writer.position == Position()
    writer.append(b"second\n", Position(7))
    writer.close()
    LogWriter(path, 2, CAP).close()  # the same attempt once more: no second marker
    assert path.read_bytes() == b"first, broken off\nseamless: attempt 2\nsecond\n"
    with pytest.raises(ProgrammingError, match="attempt 1 after attempt 2"):
        LogWriter(path, 1, CAP)


def test_the_cap_keeps_the_beginning_and_counts_the_rest(store: LogStore, path: Path) -> None:
    writer = write(path, b"12345\n", b"7890abc\n", b"more\n", cap=10)
    assert writer.position == Position(19), "the spool goes on being consumed"
    writer.append_line("a line of the agent's own")
    writer.close()
    writer = LogWriter(path, 1, 10)  # by the next agent
    writer.append(b"more\n", Position(24))
    writer.append_total()
    writer.append_total()
    writer.close()
    assert path.read_bytes() == (
        b"12345\n7890\nseamless: the log is full; what follows is not kept\n"
        b"seamless: a line of the agent's own\nseamless: 14 more bytes of output were not kept\n"
    )
    assert asyncio.run(store.dropped(LOG)) == 14


def test_each_attempt_has_the_whole_cap(path: Path) -> None:
    write(path, b"x" * 20 + b"\n", cap=10).close()
    writer = write(path, b"y" * 9 + b"\n", attempt=2, cap=30)
    writer.close()
    assert path.read_bytes().endswith(b"seamless: attempt 2\nyyyyyyyyy\n")


def test_a_write_that_fails_changes_nothing_and_can_be_repeated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = write(path, b"one\n")
    really_write, left = os.write, 0

    def write_half(fd: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        return really_write(fd, bytes(data)[: max(len(data) // 2, 1)])

    monkeypatch.setattr(os, "write", write_half)
    for writes in range(5):
        left = writes
        with pytest.raises(OSError, match="No space"):
            writer.append(b"two\n", Position(8))
        assert path.read_bytes() == b"one\n"
        assert path.with_suffix(".idx").stat().st_size == RECORD_SIZE
    monkeypatch.undo()
    writer.append(b"two\n", Position(8))
    writer.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_times_of_pieces_and_offsets_of_times(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    clock = [0, 10, 5, 20]  # seconds; once the clock is set back
    monkeypatch.setattr("time.time_ns", lambda: int((start.timestamp() + clock.pop(0)) * 1e9))
    write(path, b"0123", b"456", b"78", b"9").close()

    async def main() -> None:
        stamps = [(stamp.offset, (stamp.at - start).total_seconds()) for stamp in await store.times(LOG, 0)]
        assert stamps == [(0, 0), (4, 10), (7, 10), (9, 20)]
        assert [stamp.offset for stamp in await store.times(LOG, 5, limit=2)] == [5, 7]
        assert await store.times(LOG, 10) == []
        for seconds, offset in [(-5, 0), (0, 0), (1, 4), (10, 4), (11, 9), (20, 9), (21, 10)]:
            assert await store.offset_at(LOG, start + timedelta(seconds=seconds)) == offset, seconds

    asyncio.run(main())


async def stage_is_over() -> bool:
    return True


async def stage_runs() -> bool:
    return False


def test_following_a_log_whose_stage_is_over_is_reading_it(store: LogStore, path: Path) -> None:
    write(path, b"0123456789").close()

    async def main() -> None:
        assert [chunk async for chunk in store.follow(LOG, 2, stage_is_over, chunk=3)] == [b"234", b"567", b"89"]
        assert [chunk async for chunk in store.follow(LOG, 99, stage_is_over)] == []

    asyncio.run(main())


def test_a_stage_that_never_wrote_ends_its_followers(store: LogStore) -> None:
    async def main() -> None:
        async def follow() -> list[bytes]:
            return [chunk async for chunk in store.follow(LOG, 0, stage_runs)]

        followers = [asyncio.create_task(follow()) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert not any(follower.done() for follower in followers)
        store.end(LOG)
        assert await asyncio.gather(*followers) == [[], [], []]
        store.end(LOG)  # nobody follows any more: nothing happens

    asyncio.run(main())


def test_an_end_while_the_state_is_looked_up_is_not_missed(store: LogStore) -> None:
    async def ends_meanwhile() -> bool:
        store.end(LOG)
        return False

    async def main() -> None:
        async with asyncio.timeout(60):
            assert [chunk async for chunk in store.follow(LOG, 0, ends_meanwhile)] == []

    asyncio.run(main())
