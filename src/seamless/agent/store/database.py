"""The connection: one, for reading and writing, and transactions that any store method joins.

SQLite in WAL mode with synchronous=FULL; one connection because SQLite up to 3.51.2 can corrupt a
WAL that is reset while another connection uses it (sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

import aiosqlite

from seamless.crashpoints import crash_point
from seamless.errors import ConfigError, SeamlessError, StorageError

_BUSY_S: Final = 5.0  # for a lock that a backup or somebody's sqlite3 holds
_MAY_PASS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    }
)
MIGRATIONS: Final = tuple(
    sorted(
        (file.name, file.read_text(encoding="utf-8"))
        for file in resources.files(f"{__package__}.migrations").iterdir()
        if file.name.endswith(".sql")
    )
)


SCHEMA_VERSION: Final = len(MIGRATIONS)


class StoreError(SeamlessError):
    """The database cannot be used: damaged, newer than this program, or not writable."""

    exit_code = 2


class Database:
    """One aiosqlite connection. Use `transaction` for writes; `rows` and `row` wait for a running one.

    Every method raises StorageError while the disk cannot take or give it, StoreError when the file is damaged.
    """

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None  # who holds the lock
        self._writing = False  # whether for a transaction
        self._points: list[str] = []
        self._after_commit: list[Callable[[], None]] = []

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Opens or creates the database and migrates it. Raises StoreError, keeping the file as it is."""
        try:
            # Tried first: aiosqlite's thread outlives a connection that cannot be opened.
            await asyncio.to_thread(lambda: sqlite3.connect(path).close())
            connection = await aiosqlite.connect(path, isolation_level=None, timeout=_BUSY_S)
        except sqlite3.Error as error:
            raise StoreError(f"the database {path} cannot be opened: {error}") from error
        try:
            connection.row_factory = sqlite3.Row
            await _migrate(connection, path)
        except sqlite3.DatabaseError as error:
            await connection.close()
            raise StoreError(
                f"the database {path} cannot be used: {error}",
                hint="nothing was changed; restore a backup, or move the file away to begin anew",
            ) from error
        except BaseException:
            await connection.close()
            raise
        return cls(connection, path)

    async def close(self) -> None:
        async with self._lock:
            await self._connection.close()

    async def snapshot(self, path: Path) -> None:
        """Writes all that is committed to a new database file. Writes wait meanwhile: 0.2 s for 100 MB."""
        async with self._lock:
            with self._told():
                await _copy(self._connection, path)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing. Inside another transaction of the same task it joins that one."""
        if self._owner is asyncio.current_task():
            assert self._writing, "a transaction inside of a reading"
            yield
            return
        cancelled = False
        async with self._lock:
            self._owner, self._writing = asyncio.current_task(), True
            self._points, self._after_commit = [], []
            try:
                with self._told():
                    await self._connection.execute("BEGIN IMMEDIATE")
                yield
                for point in self._points:
                    crash_point(f"{point}:before_commit")
                committing = asyncio.ensure_future(self._connection.commit())
                with self._told():
                    try:
                        await asyncio.shield(committing)
                    except asyncio.CancelledError:  # too late to take it back, so whoever waits for it is told as well
                        await asyncio.wait({committing})
                        committing.result()
                        cancelled = True
                for point in self._points:
                    crash_point(f"{point}:after_commit")
            except BaseException:
                with self._told():
                    await asyncio.shield(self._connection.rollback())
                raise
            finally:
                self._owner, self._writing = None, False
            callbacks = self._after_commit
        for callback in callbacks:
            callback()
        if cancelled:
            raise asyncio.CancelledError

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Nothing is committed between the reads inside. Inside a transaction of the same task it joins that one."""
        if self._owner is asyncio.current_task():
            yield
            return
        async with self._lock:
            self._owner = asyncio.current_task()
            try:
                yield
            finally:
                self._owner = None

    def mark(self, point: str) -> None:
        """Names a crash point before and after the commit of the running transaction."""
        self._points.append(point)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Runs `callback` when the running transaction has been committed."""
        self._after_commit.append(callback)

    async def write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Executes one statement in the running transaction; returns the rows it changed."""
        self._check_writing()
        with self._told():
            async with self._connection.execute(sql, parameters) as cursor:
                return cursor.rowcount

    async def insert(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """As `write`; returns the new row's id."""
        self._check_writing()
        with self._told():
            async with self._connection.execute(sql, parameters) as cursor:
                rowid = cursor.lastrowid
        assert rowid is not None
        return rowid

    def _check_writing(self) -> None:
        is_ours = self._writing and self._owner is asyncio.current_task()
        assert is_ours, "a write outside of a transaction"

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        if self._owner is asyncio.current_task():
            return await self._fetch(sql, parameters)
        async with self._lock:
            return await self._fetch(sql, parameters)

    async def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[sqlite3.Row]:
        with self._told():
            return list(await self._connection.execute_fetchall(sql, parameters))

    async def row(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        return next(iter(await self.rows(sql, parameters)), None)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Says SQLite's errors in our words; those of a statement that is wrong pass as they are."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is SQLite's detail
            if code in _MAY_PASS:
                raise StorageError(
                    f"the database {self._path} cannot be used now: {error}",
                    hint="look for free space, permissions and other programs that hold it in the agent's data_dir",
                ) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StoreError(
                    f"the database {self._path} is damaged: {error}", hint="stop the agent, and restore a backup"
                ) from error
            raise


async def _copy(connection: aiosqlite.Connection, path: Path) -> None:
    """A copy that is one file, whole and on the disk. Raises sqlite3.Error and leaves none when it cannot be."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        target = await asyncio.to_thread(sqlite3.connect, new, check_same_thread=False)
        try:
            await connection.backup(target)
            await asyncio.to_thread(_seal, target)
        finally:
            await asyncio.to_thread(target.close)
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def _seal(target: sqlite3.Connection) -> None:
    target.execute("PRAGMA journal_mode = DELETE")
    if target.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("the copy is damaged")


async def _keep(connection: aiosqlite.Connection, path: Path, version: int) -> None:
    """A backup before the schema changes: `seamless restore` takes it. Raises StoreError, and nothing is migrated."""
    copy = path.with_name(f"{path.name}.schema-{version}")
    try:
        await _copy(connection, copy)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"the database {path} is of an older version, and no backup can be made before it is changed: {error}",
            hint=f"free some space for {copy}; nothing was changed",
        ) from error
    for old in path.parent.glob(f"{path.name}.schema-*"):
        if old != copy:
            old.unlink()


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    """Brings the schema up to date, each migration in a transaction of its own."""
    (row,) = await connection.execute_fetchall("PRAGMA user_version")
    version = int(row[0])
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"the database {path} was written by a newer Seamless (schema {version}, this one knows {len(MIGRATIONS)})",
            hint="install that version again; nothing was changed",
        )
    (row,) = await connection.execute_fetchall("PRAGMA quick_check(1)")
    if row[0] != "ok":
        raise sqlite3.DatabaseError(f"it is damaged: {row[0]}")
    await connection.execute("PRAGMA journal_mode = WAL")
    await connection.execute("PRAGMA synchronous = FULL")
    await connection.execute("PRAGMA foreign_keys = ON")
    if 0 < version < len(MIGRATIONS):
        await _keep(connection, path, version)
    for number, (_, script) in enumerate(MIGRATIONS[version:], start=version + 1):
        await connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
