"""Which repository an address led to, by the number that its forge gave it: names can be given up and taken again."""

from __future__ import annotations

from collections.abc import Collection

from seamless.agent.store.database import Database


class Repositories:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def id_of(self, url: str) -> int | None:
        row = await self._db.row("SELECT id FROM repositories WHERE url = ?", (url,))
        return None if row is None else int(row["id"])

    async def all(self) -> dict[str, int]:
        """Address -> number."""
        return {row["url"]: row["id"] for row in await self._db.rows("SELECT url, id FROM repositories")}

    async def identify(self, url: str, identity: int) -> None:
        """Takes note of a repository's number; one that is known stays."""
        async with self._db.transaction():
            await self._db.write("INSERT OR IGNORE INTO repositories (url, id) VALUES (?, ?)", (url, identity))

    async def keep_only(self, urls: Collection[str]) -> None:
        """Forgets addresses that no service uses any more."""
        async with self._db.transaction():
            for row in await self._db.rows("SELECT url FROM repositories"):
                if row["url"] not in urls:
                    await self._db.write("DELETE FROM repositories WHERE url = ?", (row["url"],))
