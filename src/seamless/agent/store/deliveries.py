"""Webhooks that were taken: what each says, and what became of it. Their bodies are not kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.forges.github.events import Told
from seamless.model import utc_now


@dataclass(frozen=True, slots=True)
class Delivery:
    """`outcome` is None until it was looked into; `copies` counts how often it came again."""

    id: int
    guid: str
    told: Told
    received_at: datetime
    copies: int
    outcome: str | None


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """`digest` is the SHA-256 of the body; `outcome` is set when there is nothing to look into."""

    guid: str
    digest: str
    told: Told
    outcome: str | None


class Deliveries:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, new: Sequence[NewDelivery]) -> list[Delivery | None]:
        """Stores them, at once and by one statement; None for each whose GUID or body is known. A GUID that comes
        again is counted; a body under another GUID is not, since nobody vouches for a GUID."""
        values = [{**asdict(one.told), "guid": one.guid, "digest": one.digest, "outcome": one.outcome} for one in new]
        async with self._db.transaction():
            self._db.mark("delivery.add")
            found = await self._db.rows(
                "INSERT INTO deliveries (guid, digest, event, action, repository, name, ref, pull_request, commit_sha,"
                " hook, received_at, outcome) SELECT value->>'guid', value->>'digest', value->>'event',"
                " value->>'action', value->>'repository', value->>'name', value->>'ref', value->>'pull_request',"
                " value->>'commit', value->>'hook', ?2, value->>'outcome' FROM json_each(?1) WHERE true"
                " ON CONFLICT (guid) DO UPDATE SET copies = copies + 1 ON CONFLICT DO NOTHING RETURNING *",
                (json.dumps(values), rows.to_time(utc_now())),
            )
        stored = {row["guid"]: _delivery(row) for row in found if row["copies"] == 0}
        return [stored.pop(one.guid, None) for one in new]

    async def pending(self) -> list[Delivery]:
        """Those that nobody has looked into, oldest first."""
        found = await self._db.rows("SELECT * FROM deliveries WHERE outcome IS NULL ORDER BY id")
        return [_delivery(row) for row in found]

    async def finish(self, deliveries: Sequence[int], outcome: str) -> int:
        """Says what became of them; returns how many of them nobody had said that of before."""
        async with self._db.transaction():
            self._db.mark("delivery.finish")
            return await self._db.write(
                "UPDATE deliveries SET outcome = ? WHERE outcome IS NULL AND id IN (SELECT value FROM json_each(?))",
                (outcome, json.dumps(list(deliveries))),
            )

    async def by_guid(self, guid: str) -> Delivery | None:
        row = await self._db.row("SELECT * FROM deliveries WHERE guid = ?", (guid,))
        return None if row is None else _delivery(row)

    async def newest(self, limit: int = 50) -> list[Delivery]:
        """Newest first."""
        found = await self._db.rows("SELECT * FROM deliveries ORDER BY id DESC LIMIT ?", (limit,))
        return [_delivery(row) for row in found]

    async def forget(self, *, older_than_days: int) -> None:
        """Those that were looked into; GitHub sends nothing again after three days."""
        async with self._db.transaction():
            await self._db.write(
                "DELETE FROM deliveries WHERE outcome IS NOT NULL AND received_at < ?",
                (rows.to_time(utc_now() - timedelta(days=older_than_days)),),
            )


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        id=row["id"],
        guid=row["guid"],
        told=Told(
            event=row["event"],
            action=row["action"],
            repository=row["repository"],
            name=row["name"],
            ref=row["ref"],
            pull_request=row["pull_request"],
            commit=row["commit_sha"],
            hook=row["hook"],
        ),
        received_at=rows.time(row["received_at"]),
        copies=row["copies"],
        outcome=row["outcome"],
    )
