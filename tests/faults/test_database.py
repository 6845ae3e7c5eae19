"""The database cannot be written: nothing is half stored, nothing is guessed, and it goes on when it can."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent.storing import new_run, with_store
from seamless.agent.store import Store, StoreError, database
from seamless.agent.store.database import Database
from seamless.errors import StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seamless.db"


async def _pragma(store: Store, text: str) -> int:
    row = await store._database.row(f"PRAGMA {text}")
    assert row is not None
    return int(row[0])


def test_a_full_disk_stores_nothing_by_halves_and_passes(path: Path) -> None:
    """SQLite's own limit of pages, which it meets as it meets a full disk: SQLITE_FULL at whatever statement it is."""

    async def body(store: Store) -> None:
        kept = [run.id for run in [await store.runs.create(new_run()) for _ in range(3)]]
        await _pragma(store, f"max_page_count = {await _pragma(store, 'page_count')}")
        refused: list[StorageError] = []
        for _ in range(50):
            try:
                kept.append((await store.runs.create(new_run())).id)
            except StorageError as error:
                refused.append(error)
        assert len(refused) > 30
        assert all(str(path) in error.message and error.hint for error in refused)
        assert sorted(run.id for run in await store.runs.newest(limit=100)) == sorted(kept)
        assert len(await store.events.page(limit=1000)) == len(kept)
        await _pragma(store, "max_page_count = 1000000")
        again = await store.runs.create(new_run())
        assert again.number == len(kept) + 1  # a number that was refused was not used up

    with_store(path, body)


def test_a_lock_of_somebody_else_is_waited_for_but_not_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.3)

    async def body(store: Store) -> None:
        await store.runs.create(new_run())
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(store.runs.create(new_run()))
            with pytest.raises(StorageError, match="database is locked"):
                await waiting
            waiting = asyncio.create_task(store.runs.create(new_run()))
            await asyncio.sleep(0)
            other.execute("COMMIT")
            assert (await waiting).number == 2
        finally:
            other.close()

    with_store(path, body)


class _FailsAt:
    """aiosqlite's connection, of which one call fails as a failing disk lets it fail."""

    def __init__(self, real: object, call: int) -> None:
        self._real = real
        self._left = call
        self.failed = False

    def __getattr__(self, name: str) -> object:
        real = getattr(self._real, name)
        if name not in ("execute", "commit", "execute_fetchall"):
            return real

        def counted(*arguments: object) -> object:
            self._left -= 1
            if self._left == 0:
                self.failed = True
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
                return _failing(error)
            return real(*arguments)

        return counted


class _failing:  # noqa: N801 - stands for a coroutine and for a context manager, as aiosqlite's results do
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __await__(self) -> object:
        raise self._error

    async def __aenter__(self) -> object:
        raise self._error

    async def __aexit__(self, *_: object) -> None: ...


def test_a_failure_at_each_call_of_a_transaction_leaves_all_or_nothing(path: Path) -> None:
    async def body(store: Store) -> int:
        db: Database = store._database
        real = db._connection
        call, expected = 1, 0
        while True:
            failing = _FailsAt(real, call)
            db._connection = failing  # type: ignore[assignment]
            try:
                await store.runs.create(new_run())
                told = False
            except StorageError:
                told = True
            db._connection = real
            assert told == failing.failed
            expected += not told
            assert len(await store.runs.newest(limit=1000)) == expected
            assert len(await store.events.page(limit=1000)) == expected
            if not failing.failed:
                return call
            call += 1

    assert with_store(path, body) > 10


def test_damage_that_comes_later_names_the_backup(path: Path) -> None:
    async def body(store: Store) -> None:
        for _ in range(30):
            await store.runs.create(new_run())
        await _pragma(store, "wal_checkpoint(TRUNCATE)")
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (path.stat().st_size - 4096))
        await store._database.rows("PRAGMA shrink_memory")  # else it still has the pages
        with pytest.raises(StoreError, match="is damaged") as told:
            await store.runs.newest(limit=1000)
        assert "backup" in (told.value.hint or "")

    with_store(path, body)
