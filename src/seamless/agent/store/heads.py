"""What the remotes' refs were last seen to be, and which services cannot be seen."""

from __future__ import annotations

from datetime import datetime

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.model import utc_now


class Heads:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, service: str, ref: str) -> tuple[str, datetime] | None:
        """The commit and when it was first seen there."""
        row = await self._db.row("SELECT commit_sha, seen_at FROM heads WHERE service = ? AND ref = ?", (service, ref))
        return None if row is None else (row["commit_sha"], rows.time(row["seen_at"]))

    async def see(self, service: str, ref: str, commit: str) -> bool:
        """True when this is news. In one transaction with the run that it starts, no head is lost or taken twice."""
        async with self._db.transaction():
            return bool(
                await self._db.write(
                    "INSERT INTO heads (service, ref, commit_sha, seen_at) VALUES (?1, ?2, ?3, ?4)"
                    " ON CONFLICT (service, ref) DO UPDATE SET commit_sha = ?3, seen_at = ?4 WHERE commit_sha <> ?3",
                    (service, ref, commit, rows.to_time(utc_now())),
                )
            )

    async def problem(self, service: str) -> str | None:
        row = await self._db.row("SELECT problem FROM services WHERE name = ?", (service,))
        return None if row is None else row["problem"]

    async def set_problem(self, service: str, problem: str | None) -> bool:
        """True when it changed."""
        async with self._db.transaction():
            await self._db.write("INSERT OR IGNORE INTO services (name) VALUES (?)", (service,))
            return bool(
                await self._db.write(
                    "UPDATE services SET problem = ?1 WHERE name = ?2 AND problem IS NOT ?1", (problem, service)
                )
            )
