"""The database file: new, old, newer than the program, damaged, and after a death."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.storing import new_run, with_store
from seamless.agent.store import Store, StoreError
from seamless.agent.store.database import MIGRATIONS
from seamless.errors import ConfigError

_WRITER = """
import asyncio, sys
from pathlib import Path
from agent.storing import new_run
from seamless.agent.store import Store

async def main() -> None:
    store = await Store.open(Path(sys.argv[1]))
    while True:
        print((await store.runs.create(new_run())).id, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seamless.db"


async def _nothing(_: Store) -> None:
    """Opening is all."""


def _pragma(path: Path, name: str) -> object:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        connection.close()


def test_a_fresh_database_has_the_newest_schema_and_writes_ahead(path: Path) -> None:
    with_store(path, _nothing)
    assert _pragma(path, "user_version") == len(MIGRATIONS)
    assert _pragma(path, "journal_mode") == "wal"


def _schema(path: Path) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    try:
        return sorted(connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"))
    finally:
        connection.close()


@pytest.mark.parametrize("steps", range(1, len(MIGRATIONS)))
def test_a_database_of_any_age_becomes_what_a_fresh_one_is(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, fresh = tmp_path / "old.db", tmp_path / "fresh.db"
    monkeypatch.setattr("seamless.agent.store.database.MIGRATIONS", MIGRATIONS[:steps])
    with_store(old, _nothing)
    assert _pragma(old, "user_version") == steps
    monkeypatch.setattr("seamless.agent.store.database.MIGRATIONS", MIGRATIONS)
    with_store(old, _nothing)
    with_store(fresh, _nothing)
    assert _schema(old) == _schema(fresh)
    with_store(old, lambda store: store.runs.create(new_run()))


def test_a_newer_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with_store(path, lambda store: store.runs.create(new_run()))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="written by a newer Seamless") as refused:
        with_store(path, _nothing)
    assert str(path) in refused.value.message
    assert refused.value.exit_code == 2
    assert path.read_bytes() == before


def test_an_interrupted_migration_leaves_nothing_and_is_made_whole_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("0002_broken.sql", "CREATE TABLE half (x TEXT) STRICT; SELECT * FROM nowhere;")
    monkeypatch.setattr("seamless.agent.store.database.MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(StoreError):
        with_store(path, _nothing)
    assert _pragma(path, "user_version") == len(MIGRATIONS)
    mended = ("0002_mended.sql", "CREATE TABLE half (x TEXT) STRICT;")
    monkeypatch.setattr("seamless.agent.store.database.MIGRATIONS", (*MIGRATIONS, mended))
    with_store(path, _nothing)
    assert _pragma(path, "user_version") == len(MIGRATIONS) + 1


def _overwrite(path: Path, offset: int, content: bytes) -> bytes:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)
    return path.read_bytes()


@pytest.mark.parametrize("part", ["the header", "the schema", "a table"])
def test_a_damaged_database_is_refused_and_kept(path: Path, part: str) -> None:
    async def fill(store: Store) -> None:
        for _ in range(30):
            await store.runs.create(new_run())

    with_store(path, fill)
    offset = {"the header": 0, "the schema": 100, "a table": path.stat().st_size // 2 // 4096 * 4096}[part]
    damaged = _overwrite(path, offset, b"\xa5" * 200)
    with pytest.raises(StoreError) as refused:
        with_store(path, _nothing)
    assert str(path) in refused.value.message
    assert refused.value.hint is not None
    assert "backup" in refused.value.hint
    assert path.read_bytes() == damaged


def test_a_database_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        with_store(tmp_path / "no such folder" / "seamless.db", _nothing)


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(5)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()

        async def stored(store: Store) -> list[str]:
            return [run.id for run in await store.runs.newest(limit=10000)]

        assert told[0].startswith("web-")
        assert set(told) <= set(with_store(path, stored))
