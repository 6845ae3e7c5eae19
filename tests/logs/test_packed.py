"""Packed logs: they read as before, from any offset, and no death loses a byte of them."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.agent.logs import LogId, LogStore, packed
from seamless.agent.logs import store as log_store
from seamless.agent.logs.packed import open_readable, packing
from seamless.agent.logs.redaction import Position
from seamless.agent.logs.writer import LogWriter
from seamless.errors import ProgrammingError, StorageError
from seamless.model import StageName

LOG = LogId("payment-42", StageName.UNIT_TEST)
CAP = 1 << 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "payment" / "payment-42" / "unit_test.log"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = LogStore(tmp_path, CAP)
    yield store
    store.close()


def write(path: Path, lines: int = 20_000) -> bytes:
    """A log of some two blocks, with an index of more than one, as a long test run leaves them."""
    chance = random.Random(7)
    writer = LogWriter(path, 1, CAP)
    data = b""
    for number in range(lines):
        line = b"\x1b[32mok\x1b[0m %d test_%d passed in %d ms\n" % (number, chance.randrange(500), chance.randrange(90))
        data += line
        writer.append(line, Position(len(data)))
    writer.close()
    return data


@given(st.data())
def test_any_range_of_a_packed_file_is_that_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(st.binary(max_size=400))
    file = tmp_path_factory.mktemp("packed") / "build.log"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "BLOCK", data.draw(st.integers(1, 100)))
        patch.setattr(packed, "_ENTRIES", data.draw(st.integers(1, 5)))
        patch.setattr(packed, "_CACHED", data.draw(st.integers(1, 3)))
        for _ in packing(file):
            pass
        assert not file.exists()
        with open_readable(file) as log:
            assert log.size == len(content)
            for offset, limit in data.draw(st.lists(st.tuples(st.integers(0, 420), st.integers(0, 420)), min_size=1)):
                assert log.read(offset, limit) == content[offset : offset + limit]
        assert gzip.decompress(packed.packed(file).read_bytes()) == content, "zcat does not read it"


def test_a_packed_log_answers_as_before(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_store, "_SEARCH_S", 600.0)  # so that no answer depends on the time it took
    data = write(path)

    async def answers() -> list[object]:
        options = {"ignore_case": True, "limit": 7}
        return [
            await store.size(LOG),
            await store.dropped(LOG),
            await store.read(LOG, 0, len(data) + 5),
            await store.read(LOG, packed.BLOCK - 3, 10),
            await store.tail(LOG, 1000),
            await store.times(LOG, 500_000, limit=3),
            await store.offset_at(LOG, datetime.now(UTC)),
            await store.search(LOG, "TEST_(7|9)1 passed", 0, backwards=False, **options),  # type: ignore[arg-type]
            await store.search(LOG, "test_7 .*2 ms$", len(data), backwards=True, **options),  # type: ignore[arg-type]
            await store.line_at(LOG, 600_000),
            await store.start_of_line(LOG, 15_000),
        ]

    async def main() -> None:
        before = await answers()
        taken = sum(file.stat().st_blocks * 512 for file in path.parent.iterdir())
        reading = store.follow(LOG, 0, is_over, chunk=100_000)
        first = await anext(reading)
        saved = await store.pack(LOG.run)
        assert sorted(file.name for file in path.parent.iterdir()) == ["unit_test.idx.gz", "unit_test.log.gz"]
        assert saved == taken - sum(file.stat().st_blocks * 512 for file in path.parent.iterdir())
        assert saved > taken / 2
        assert first + b"".join([piece async for piece in reading]) == data, "who read meanwhile lost the thread"
        assert await answers() == before
        assert store.unpacked(LOG.run) == []
        assert await store.pack(LOG.run) == 0
        with pytest.raises(ProgrammingError, match="its run is over"):
            LogWriter(path, 2, CAP)

    async def is_over() -> bool:
        return True

    asyncio.run(main())


def test_short_logs_stay_as_they_are(store: LogStore, path: Path) -> None:
    write(path, lines=3)
    assert asyncio.run(store.pack(LOG.run)) == 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["unit_test.idx", "unit_test.log"]


KILLED = """
import asyncio, sys
from pathlib import Path
from seamless.agent.logs import LogStore
asyncio.run(LogStore(Path(sys.argv[1]), 1).pack("payment-42"))
"""


@pytest.mark.parametrize("point", ["log.pack:half_written", "log.pack:before_rename", "log.pack:after_rename"])
def test_dying_while_a_log_is_packed_loses_nothing(store: LogStore, tmp_path: Path, path: Path, point: str) -> None:
    data = write(path)
    agent = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "SEAMLESS_CRASH_AT": point}, check=False
    )
    assert agent.returncode == -signal.SIGKILL
    assert path.exists(), "the first file was packed to its end"
    assert asyncio.run(store.read(LOG, 0, len(data))) == data
    assert asyncio.run(store.pack(LOG.run)) > 0
    assert asyncio.run(store.read(LOG, 0, len(data))) == data
    assert sorted(file.name for file in path.parent.iterdir()) == ["unit_test.idx.gz", "unit_test.log.gz"]


def test_a_log_that_cannot_be_packed_stays(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(path)
    monkeypatch.setattr(os, "fsync", lambda fd: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    with pytest.raises(StorageError, match="No space left on device"):
        asyncio.run(store.pack(LOG.run))
    assert sorted(file.name for file in path.parent.iterdir()) == ["unit_test.idx", "unit_test.log"]
    assert asyncio.run(store.read(LOG, 0, len(data))) == data


def test_a_packed_log_that_the_disk_spoilt_says_so(store: LogStore, path: Path) -> None:
    write(path)
    asyncio.run(store.pack(LOG.run))
    file = packed.packed(path)
    content = file.read_bytes()
    file.write_bytes(content[:1000] + b"spoilt" + content[1006:])
    with pytest.raises(StorageError, match=r"unit_test\.log\.gz is damaged"):
        asyncio.run(store.read(LOG, 0, 10))
    file.write_bytes(content[:-1])
    with pytest.raises(StorageError, match="its end is missing"):
        asyncio.run(store.size(LOG))


def test_packing_and_reading_take_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "build.log"
    file.write_bytes(os.urandom(1 << 20) * 32)
    tracemalloc.start()
    try:
        for _ in packing(file):
            pass
        with open_readable(file) as log:
            for offset in range(0, log.size, 1 << 20):
                log.read(offset, 1 << 18)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20
