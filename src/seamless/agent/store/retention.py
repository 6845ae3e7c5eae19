"""What has been kept long enough, and what must not go yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.agent.store.events import Events
from seamless.model import Image, utc_now

_ACTIVE = "('idle', 'in_progress', 'awaiting_approval')"
# What runs, what ran before it (a rollback's usual aim), and what nobody knows the end of.
_DEPLOYED = """
  SELECT run, service, digest FROM (
    SELECT run, service, digest, row_number() OVER (PARTITION BY service, environment ORDER BY id DESC) AS place
    FROM deployments WHERE state = 'success') WHERE place <= 2
  UNION SELECT run, service, digest FROM deployments WHERE state IN ('recorded', 'in_progress', 'unknown')
"""


# What a run that has not ended made or takes, and what a hold names, beside what is deployed.
_MEANT = f"""
  SELECT service, digest FROM ({_DEPLOYED})
  UNION SELECT i.service, i.digest FROM images i JOIN stages s ON i.id = json_extract(s.detail, '$.image')
    JOIN runs r ON r.id = s.run WHERE r.state IN {_ACTIVE}
  UNION SELECT i.service, i.digest FROM images i JOIN runs r ON i.id = json_extract(r.options, '$.image')
    WHERE r.state IN {_ACTIVE}
  UNION SELECT i.service, i.digest FROM images i JOIN holds h ON h.service = i.service AND h.commit_sha = i.commit_sha
"""


class Retention:
    def __init__(self, database: Database, events: Events) -> None:
        self._db = database
        self._events = events

    async def old_images(self, service: str, keep: int, *, refused: bool = False) -> list[Image]:
        """Images that are neither among the newest `keep` trusted ones, nor deployed, nor meant by a run that has not
        ended, by a hold, or by another image of the same digest that is kept. Oldest first.

        Of what is not trusted: once its run is over. With `refused` also those that their registry did not delete.
        """
        found = await self._db.rows(
            f"""
            WITH kept AS (
              SELECT id FROM images WHERE service = ?1 AND trusted = 1 AND gone_at IS NULL ORDER BY id DESC LIMIT ?2),
            needed AS (
              SELECT digest FROM images WHERE id IN kept
              UNION SELECT digest FROM ({_MEANT}) WHERE service = ?1
              UNION SELECT i.digest FROM images i JOIN runs r ON r.id = i.run
                WHERE i.service = ?1 AND i.trusted = 0 AND (r.state IN {_ACTIVE} OR r.cleaned = 0))
            SELECT * FROM images WHERE service = ?1 AND gone_at IS NULL AND digest NOT IN needed
              AND (?3 OR refused IS NULL) ORDER BY id
            """,
            (service, keep, refused),
        )
        return [rows.image(row) for row in found]

    async def take_images(self, images: Sequence[Image], keep: int) -> bool:
        """Marks images of one service as gone, if all are still `old_images`: nobody begins to use them from now on.

        They are `leaving_images` until `let_go`, or until `keep_refused`.
        """
        async with self._db.transaction():
            old = {image.id for image in await self.old_images(images[0].service, keep, refused=True)}
            if not old.issuperset(image.id for image in images):
                return False
            await self._change(images, gone_at=rows.to_time(utc_now()), leaving=1)
            return True

    async def leaving_images(self) -> list[Image]:
        """What was taken and is not known to be removed."""
        return [rows.image(row) for row in await self._db.rows("SELECT * FROM images WHERE leaving = 1 ORDER BY id")]

    async def let_go(self, images: Sequence[Image]) -> None:
        """They were removed."""
        async with self._db.transaction():
            await self._change(images, leaving=0)

    async def keep_refused(self, images: Sequence[Image], why: str) -> None:
        """Their registry does not delete them: they are there as before, and no run is kept for their sake."""
        async with self._db.transaction():
            await self._change(images, gone_at=None, leaving=0, refused=why)
            for image in images:
                await self._events.add("agent", "image kept", service=image.service, run=image.run, reason=why)

    async def _change(self, images: Sequence[Image], **columns: str | int | None) -> None:
        setting = ", ".join(f"{column} = ?" for column in columns)
        for image in images:
            await self._db.write(f"UPDATE images SET {setting} WHERE id = ?", (*columns.values(), image.id))

    async def image_services(self) -> list[str]:
        return [row["service"] for row in await self._db.rows("SELECT DISTINCT service FROM images")]

    async def runs_before(self, time: datetime, keep: int) -> list[str]:
        """Runs that ended before `time`, are none of the newest `keep` of their service, and that nothing stands on:
        no deployment that counts, no image that is there, no hold's release, no workspace. Oldest first.

        An image that its registry does not delete counts only while somebody may need it.
        """
        found = await self._db.rows(
            f"""
            SELECT id FROM (
              SELECT id, state, ended_at, cleaned,
                row_number() OVER (PARTITION BY service ORDER BY number DESC) AS place FROM runs)
            WHERE place > ?2 AND state NOT IN {_ACTIVE} AND ended_at < ?1 AND cleaned = 1
              AND id NOT IN (SELECT run FROM ({_DEPLOYED}))
              AND id NOT IN (SELECT run FROM images WHERE leaving = 1 OR gone_at IS NULL
                AND (refused IS NULL OR (service, digest) IN (SELECT service, digest FROM ({_MEANT}))))
              AND id NOT IN (SELECT released_by_run FROM holds WHERE released_by_run IS NOT NULL)
              AND id NOT IN (SELECT run FROM views)
            ORDER BY ended_at
            """,
            (rows.to_time(time), keep),
        )
        return [row["id"] for row in found]

    async def forget_run(self, run: str, before: datetime, keep: int) -> bool:
        """Deletes a run with its history, if it is still one of `runs_before`. Its number is never used again, and what
        people did (the audit log) stays."""
        async with self._db.transaction():
            if run not in await self.runs_before(before, keep):
                return False
            for statement in (
                "DELETE FROM stages WHERE run = ?",
                "DELETE FROM deployments WHERE run = ?",
                "DELETE FROM images WHERE run = ?",
                "DELETE FROM events WHERE run = ? AND kind <> 'action'",
                "DELETE FROM runs WHERE id = ?",
            ):
                await self._db.write(statement, (run,))
            return True

    async def has_ended_before(self, run: str, time: datetime) -> bool:
        """Whether a run's log may go by its age; True for a run that nobody knows any more."""
        row = await self._db.row(
            f"SELECT state NOT IN {_ACTIVE} AND ended_at < ?2 AND id NOT IN (SELECT run FROM ({_DEPLOYED})) AS old"
            " FROM runs WHERE id = ?1",
            (run, rows.to_time(time)),
        )
        return row is None or bool(row["old"])

    async def is_over(self, run: str) -> bool:
        """Whether a run has ended and was cleaned up after, so that nothing more is written for it."""
        row = await self._db.row(f"SELECT 1 FROM runs WHERE id = ? AND state NOT IN {_ACTIVE} AND cleaned = 1", (run,))
        return row is not None

    async def unused_trees(self, before: datetime) -> list[str]:
        """Checkouts that no view stands on and that were not used since."""
        found = await self._db.rows(
            "SELECT id FROM trees WHERE used_at < ? AND id NOT IN (SELECT tree FROM views) ORDER BY used_at",
            (rows.to_time(before),),
        )
        return [row["id"] for row in found]

    async def unused_caches(self, before: datetime) -> list[tuple[str, str, list[str]]]:
        """(service, path, layers) of services without a run since, and none that has not ended."""
        found = await self._db.rows(
            "SELECT service, path, layers FROM caches c WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE"
            f" r.service = c.service AND (r.created_at >= ?1 OR r.state IN {_ACTIVE}))",
            (rows.to_time(before),),
        )
        return [(row["service"], row["path"], list(json.loads(row["layers"]))) for row in found]

    async def forget_cache(self, service: str, path: str, before: datetime) -> bool:
        """Deletes a cache's record, if it is still one of `unused_caches`."""
        async with self._db.transaction():
            if (service, path) not in [(one, other) for one, other, _ in await self.unused_caches(before)]:
                return False
            await self._db.write("DELETE FROM caches WHERE service = ? AND path = ?", (service, path))
            return True

    async def hasten_views(self) -> None:
        """What is kept of failed runs for a shell may go now."""
        async with self._db.transaction():
            await self._db.write(
                "UPDATE views SET kept_until = '0001-01-01T00:00:00+00:00' WHERE kept_until IS NOT NULL"
            )
