"""Images that the pipeline has built."""

from __future__ import annotations

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.model import Image, ImageRef, utc_now


class Images:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(
        self, *, service: str, commit: str, ref: ImageRef, tag: str, run: str, build_key: str, trusted: bool
    ) -> Image:
        """Records what `run` built; the same run again changes nothing."""
        async with self._db.transaction():
            await self._db.write(
                "INSERT OR IGNORE INTO images (service, commit_sha, digest, kind, repository, tag, run, build_key,"
                " trusted, built_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    service,
                    commit,
                    ref.digest,
                    ref.kind,
                    ref.repository,
                    tag,
                    run,
                    build_key,
                    int(trusted),
                    rows.to_time(utc_now()),
                ),
            )
            row = await self._db.row("SELECT * FROM images WHERE service = ? AND run = ?", (service, run))
            assert row is not None
            return rows.image(row)

    async def untrusted_of(self, run: str) -> Image | None:
        """What an untrusted run built, while it is there."""
        row = await self._db.row("SELECT * FROM images WHERE run = ? AND trusted = 0 AND gone_at IS NULL", (run,))
        return None if row is None else rows.image(row)

    async def get(self, image: int) -> Image | None:
        row = await self._db.row("SELECT * FROM images WHERE id = ?", (image,))
        return None if row is None else rows.image(row)

    async def reusable(self, service: str, commit: str, build_key: str) -> Image | None:
        """The newest trusted image of this commit and these build parameters."""
        row = await self._db.row(
            "SELECT * FROM images WHERE service = ? AND commit_sha = ? AND build_key = ? AND trusted = 1"
            " AND gone_at IS NULL ORDER BY id DESC LIMIT 1",
            (service, commit, build_key),
        )
        return None if row is None else rows.image(row)

    async def newest(self, service: str | None = None, *, limit: int = 200) -> list[Image]:
        found = await self._db.rows(
            "SELECT * FROM images WHERE ?1 IS NULL OR service = ?1 ORDER BY id DESC LIMIT ?2", (service, limit)
        )
        return [rows.image(row) for row in found]

    async def by_commit(self, prefix: str, service: str | None = None) -> list[Image]:
        """Images whose commit begins with `prefix` (hexadecimal), newest first."""
        found = await self._db.rows(
            "SELECT * FROM images WHERE commit_sha GLOB ?1 || '*' AND (?2 IS NULL OR service = ?2) ORDER BY id DESC",
            (prefix, service),
        )
        return [rows.image(row) for row in found]

    async def by_digest(self, service: str, digest: str) -> Image | None:
        row = await self._db.row(
            "SELECT * FROM images WHERE service = ? AND digest = ? ORDER BY id DESC LIMIT 1", (service, digest)
        )
        return None if row is None else rows.image(row)

    async def newest_trusted(self, service: str) -> Image | None:
        """The newest that may be deployed."""
        row = await self._db.row(
            "SELECT * FROM images WHERE service = ? AND trusted = 1 AND checks_passed = 1 AND gone_at IS NULL"
            " ORDER BY id DESC LIMIT 1",
            (service,),
        )
        return None if row is None else rows.image(row)

    async def pass_checks(self, image: int) -> None:
        """What precedes deploying has passed for it."""
        async with self._db.transaction():
            await self._db.write("UPDATE images SET checks_passed = 1 WHERE id = ?", (image,))

    async def mark_gone(self, image: int) -> None:
        async with self._db.transaction():
            await self._db.write(
                "UPDATE images SET gone_at = ? WHERE id = ? AND gone_at IS NULL", (rows.to_time(utc_now()), image)
            )
