"""What refs and pull requests were when they were last decided about, and which services cannot be seen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.model import utc_now


@dataclass(frozen=True, slots=True)
class KnownPullRequest:
    """An open one. `waits` for being ready: nothing ran for this head."""

    number: int
    head: str
    waits: bool


class Heads:
    """What is taken note of in one transaction with the run that it starts is neither lost nor taken twice."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, service: str, ref: str) -> tuple[str, datetime] | None:
        """The commit and when it was first seen there."""
        row = await self._db.row("SELECT commit_sha, seen_at FROM heads WHERE service = ? AND ref = ?", (service, ref))
        return None if row is None else (row["commit_sha"], rows.time(row["seen_at"]))

    async def known(self, service: str) -> dict[str, str]:
        """Full ref name -> commit."""
        found = await self._db.rows("SELECT ref, commit_sha FROM heads WHERE service = ?", (service,))
        return {row["ref"]: row["commit_sha"] for row in found}

    async def see(self, service: str, ref: str, commit: str) -> None:
        """Takes note of a ref, whatever it was before."""
        async with self._db.transaction():
            await self._db.write(
                "INSERT INTO heads (service, ref, commit_sha, seen_at) VALUES (?1, ?2, ?3, ?4)"
                " ON CONFLICT (service, ref) DO UPDATE SET commit_sha = ?3, seen_at = ?4 WHERE commit_sha <> ?3",
                (service, ref, commit, rows.to_time(utc_now())),
            )

    async def advance(self, service: str, ref: str, before: str | None, after: str) -> bool:
        """Takes note of `after`; False when the ref is no longer what the caller decided by."""
        async with self._db.transaction():
            seen = await self.get(service, ref)
            if (None if seen is None else seen[0]) != before:
                return False
            await self.see(service, ref, after)
            return True

    async def watched(self, service: str) -> frozenset[str]:
        """The patterns of refs that were looked for before."""
        found = await self._db.rows("SELECT pattern FROM watched WHERE service = ?", (service,))
        return frozenset(row["pattern"] for row in found)

    async def watch(self, service: str, patterns: Collection[str]) -> None:
        """From now on these are looked for, and no others."""
        async with self._db.transaction():
            before = await self.watched(service)
            for pattern in before - set(patterns):
                await self._db.write("DELETE FROM watched WHERE service = ? AND pattern = ?", (service, pattern))
            for pattern in set(patterns) - before:
                await self._db.write("INSERT INTO watched (service, pattern) VALUES (?, ?)", (service, pattern))

    async def pull_requests(self, service: str) -> dict[int, KnownPullRequest]:
        """The open ones by number."""
        found = await self._db.rows("SELECT * FROM pull_requests WHERE service = ?", (service,))
        return {row["number"]: KnownPullRequest(row["number"], row["head"], bool(row["waits"])) for row in found}

    async def advance_pull_request(
        self, service: str, number: int, before: KnownPullRequest | None, after: KnownPullRequest | None
    ) -> bool:
        """As `advance`; `after` is None for one that is not open any more."""
        async with self._db.transaction():
            if (await self.pull_requests(service)).get(number) != before:
                return False
            if after is None:
                await self._db.write("DELETE FROM pull_requests WHERE service = ? AND number = ?", (service, number))
            else:
                await self._db.write(
                    "INSERT OR REPLACE INTO pull_requests (service, number, head, waits) VALUES (?, ?, ?, ?)",
                    (service, number, after.head, after.waits),
                )
            return True

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
