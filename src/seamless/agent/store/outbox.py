"""Messages to far ends that wait to be delivered: added in the transaction of the event that they tell of."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.model import utc_now

LONGEST_WAIT_S: Final = 3600.0
"""No message waits longer for its next attempt: one that seems to was written before the clock was set back."""


class Outcome(StrEnum):
    DELIVERED = "delivered"
    REPLACED = "replaced"  # a newer message of its topic says more
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Message:
    id: int
    channel: str
    key: str
    topic: str
    service: str | None
    body: Mapping[str, Any]
    created_at: datetime
    attempts: int
    next_try_at: datetime
    problem: str | None  # why the last attempt failed
    outcome: Outcome | None  # None while it waits


class Outbox:
    def __init__(self, database: Database) -> None:
        self._db = database
        self.news = asyncio.Event()  # something may be due now

    async def add(
        self,
        channel: str,
        key: str,
        body: Mapping[str, Any],
        *,
        topic: str | None = None,
        service: str | None = None,
        replaces: bool = False,
    ) -> bool:
        """False when the channel has a message with that key, whatever became of it. Messages of one topic (the key
        when None) go in their order; with `replaces`, older ones of it that wait still are not sent any more."""
        topic = key if topic is None else topic
        now = rows.to_time(utc_now())
        async with self._db.transaction():
            added = await self._db.write(
                "INSERT INTO outbox (channel, key, topic, service, body, created_at, next_try_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, key) DO NOTHING",
                (channel, key, topic, service, rows.to_json(body), now, now),
            )
            if added and replaces:
                await self._db.write(
                    "UPDATE outbox SET ended_at = ?1, outcome = ?2"
                    " WHERE channel = ?3 AND topic = ?4 AND key <> ?5 AND ended_at IS NULL",
                    (now, Outcome.REPLACED, channel, topic, key),
                )
            self._db.after_commit(self.news.set)
            return bool(added)

    async def first_of_topics(self, channels: Collection[str]) -> list[Message]:
        """The oldest waiting message of each topic, the ones that may be tried soonest first."""
        found = await self._db.rows(
            "SELECT * FROM outbox WHERE id IN (SELECT min(id) FROM outbox WHERE ended_at IS NULL"
            " AND channel IN (SELECT value FROM json_each(?)) GROUP BY channel, topic) ORDER BY next_try_at, id",
            (json.dumps(sorted(channels)),),
        )
        return [_message(row) for row in found]

    async def find(self, channel: str, key: str) -> Message | None:
        row = await self._db.row("SELECT * FROM outbox WHERE channel = ? AND key = ?", (channel, key))
        return None if row is None else _message(row)

    async def problem(self, service: str) -> str | None:
        """Why messages of this service cannot be delivered now; None when none has failed."""
        row = await self._db.row(
            "SELECT problem FROM outbox WHERE service = ? AND ended_at IS NULL AND problem IS NOT NULL"
            " ORDER BY id DESC LIMIT 1",
            (service,),
        )
        return None if row is None else row["problem"]

    async def end(self, message: Message, outcome: Outcome, problem: str | None = None) -> bool:
        """False when it has ended meanwhile."""
        async with self._db.transaction():
            return bool(
                await self._db.write(
                    "UPDATE outbox SET ended_at = ?, outcome = ?, problem = ?, attempts = attempts + 1"
                    " WHERE id = ? AND ended_at IS NULL",
                    (rows.to_time(utc_now()), outcome, problem, message.id),
                )
            )

    async def postpone(self, message: Message, problem: str | None, wait_s: float) -> None:
        """Counts an attempt that failed. One that was hurried meanwhile is due still."""
        next_try = utc_now() + timedelta(seconds=min(wait_s, LONGEST_WAIT_S))
        async with self._db.transaction():
            await self._db.write(
                "UPDATE outbox SET attempts = attempts + 1, problem = ?1,"
                " next_try_at = CASE WHEN next_try_at = ?2 THEN ?3 ELSE next_try_at END WHERE id = ?4",
                (problem, rows.to_time(message.next_try_at), rows.to_time(next_try), message.id),
            )

    async def hurry(self, channel: str, topic: str | None = None) -> None:
        """Has the waiting messages of the channel (of one topic) tried at once, and soon again: what they waited for
        may be there, or is on its way. Their attempts count anew."""
        async with self._db.transaction():
            await self._db.write(
                "UPDATE outbox SET next_try_at = ?1, attempts = 0"
                " WHERE channel = ?2 AND (?3 IS NULL OR topic = ?3) AND ended_at IS NULL",
                (rows.to_time(utc_now()), channel, topic),
            )
            self._db.after_commit(self.news.set)

    async def prune(self, older_than: timedelta) -> None:
        """Forgets messages that ended so long ago."""
        async with self._db.transaction():
            await self._db.write(
                "DELETE FROM outbox WHERE ended_at IS NOT NULL AND ended_at < ?",
                (rows.to_time(utc_now() - older_than),),
            )


def _message(row: sqlite3.Row) -> Message:
    return Message(
        id=row["id"],
        channel=row["channel"],
        key=row["key"],
        topic=row["topic"],
        service=row["service"],
        body=json.loads(row["body"]),
        created_at=rows.time(row["created_at"]),
        attempts=row["attempts"],
        next_try_at=rows.time(row["next_try_at"]),
        problem=row["problem"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )
