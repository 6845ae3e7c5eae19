"""The history: an event for each transition and each action, in commit order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.model import Event, utc_now

_BEYOND_ALL: Final = 2**63 - 1  # the largest id that SQLite has


class Watermark:
    """The id of the newest committed event; clients wait for it to rise instead of asking again."""

    def __init__(self) -> None:
        self._value = 0
        self._risen = asyncio.Event()

    @property
    def value(self) -> int:
        return self._value

    def rise(self, value: int) -> None:
        self._value = max(self._value, value)
        risen, self._risen = self._risen, asyncio.Event()
        risen.set()

    async def beyond(self, value: int) -> None:
        """Returns once there is an event after `value`."""
        while self._value <= value:
            await self._risen.wait()


class Events:
    def __init__(self, database: Database) -> None:
        self._db = database
        self.newest = Watermark()
        self.listeners: list[Callable[[Event], Awaitable[None]]] = []
        """Called inside the transaction of every event: what they store is stored with it, or not at all."""

    async def load(self) -> None:
        row = await self._db.row("SELECT coalesce(max(id), 0) AS newest FROM events")
        assert row is not None
        self.newest.rise(row["newest"])

    async def add(
        self,
        kind: str,
        name: str,
        *,
        service: str | None = None,
        run: str | None = None,
        stage: str | None = None,
        from_state: str | None = None,
        to_state: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        origin: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds an event to the running transaction. `kind` "action" is the audit log."""
        async with self._db.transaction():
            event = await self._db.insert(
                "INSERT INTO events (at, kind, service, run, stage, name, from_state, to_state, reason, actor, origin,"
                " data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    rows.to_time(utc_now()),
                    kind,
                    service,
                    run,
                    stage,
                    name,
                    from_state,
                    to_state,
                    reason,
                    actor,
                    origin,
                    rows.to_json(data or {}),
                ),
            )
            self._db.after_commit(lambda: self.newest.rise(event))
            if self.listeners:
                row = await self._db.row("SELECT * FROM events WHERE id = ?", (event,))
                assert row is not None
                for listener in self.listeners:
                    await listener(rows.event(row))

    async def page(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
        kind: str | None = None,
        service: str | None = None,
        run: str | None = None,
    ) -> list[Event]:
        """Oldest first from `after` on; with `before`, newest first down from there to `after`."""
        order = "" if before is None else "DESC"
        found = await self._db.rows(
            "SELECT * FROM events WHERE id > ?1 AND id < ?2 AND (?3 IS NULL OR kind = ?3)"
            f" AND (?4 IS NULL OR service = ?4) AND (?5 IS NULL OR run = ?5) ORDER BY id {order} LIMIT ?6",
            (after, _BEYOND_ALL if before is None else before, kind, service, run, limit),
        )
        return [rows.event(row) for row in found]

    async def last(self, kind: str, run: str) -> Event | None:
        """The newest of that kind of a run."""
        row = await self._db.row(
            "SELECT * FROM events WHERE run = ? AND kind = ? ORDER BY id DESC LIMIT 1", (run, kind)
        )
        return None if row is None else rows.event(row)
