"""Deployments, and holds on production."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.agent.store.events import Events
from seamless.agent.store.runs import StaleStateError
from seamless.model import Deployment, Environment, Hold, Image, Run, utc_now
from seamless.transitions import DEPLOYMENT_LOCKS, DeploymentEvent, DeploymentState, next_deployment_state


class DeployLockedError(Exception):
    """Another deployment of that service and environment is under way."""


class Deployments:
    def __init__(self, database: Database, events: Events) -> None:
        self._db = database
        self._events = events

    async def record(self, run: Run, environment: Environment, image: Image) -> Deployment:
        """A new deployment, which is the lock of its service and environment. Raises DeployLockedError."""
        async with self._db.transaction():
            self._db.mark(f"deployment.{environment}.record")
            try:
                identity = await self._db.insert(
                    "INSERT INTO deployments (service, environment, run, trigger, commit_sha, digest, kind, repository,"
                    " state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        run.service,
                        environment,
                        run.id,
                        run.trigger,
                        image.commit,
                        image.ref.digest,
                        image.ref.kind,
                        image.ref.repository,
                        DeploymentState.RECORDED,
                        rows.to_time(utc_now()),
                    ),
                )
            except sqlite3.IntegrityError:
                raise DeployLockedError from None
            await self._events.add(
                "deployment",
                "record",
                service=run.service,
                run=run.id,
                to_state=DeploymentState.RECORDED,
                data={"deployment": identity, "environment": environment, "commit": image.commit},
            )
            return await self.get(identity)

    async def get(self, deployment: int) -> Deployment:
        row = await self._db.row("SELECT * FROM deployments WHERE id = ?", (deployment,))
        assert row is not None
        return rows.deployment(row)

    async def locked(self, service: str, environment: Environment) -> Deployment | None:
        """The deployment that is under way there."""
        newest = await self.newest(service, environment)
        return newest if newest is not None and newest.state in DEPLOYMENT_LOCKS else None

    async def of_run(self, run: str, environment: Environment) -> Deployment | None:
        row = await self._db.row(
            "SELECT * FROM deployments WHERE run = ? AND environment = ? ORDER BY id DESC LIMIT 1", (run, environment)
        )
        return None if row is None else rows.deployment(row)

    async def newest(self, service: str, environment: Environment) -> Deployment | None:
        """The last one, whatever became of it."""
        row = await self._db.row(
            "SELECT * FROM deployments WHERE service = ? AND environment = ? ORDER BY id DESC LIMIT 1",
            (service, environment),
        )
        return None if row is None else rows.deployment(row)

    async def current(self, service: str, environment: Environment) -> Deployment | None:
        """The last that succeeded: what the environment runs as far as we know."""
        row = await self._db.row(
            "SELECT * FROM deployments WHERE service = ? AND environment = ? AND state = 'success'"
            " ORDER BY id DESC LIMIT 1",
            (service, environment),
        )
        return None if row is None else rows.deployment(row)

    async def history(
        self, service: str | None, environment: Environment | None, *, before: int | None, limit: int
    ) -> list[Deployment]:
        """Newest first; `before` is an id."""
        found = await self._db.rows(
            "SELECT * FROM deployments WHERE (?1 IS NULL OR service = ?1) AND (?2 IS NULL OR environment = ?2)"
            " AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4",
            (service, environment, before, limit),
        )
        return [rows.deployment(row) for row in found]

    async def last_of_image(self, service: str, environment: Environment, digest: str) -> Deployment | None:
        """The last that put this image there with success."""
        row = await self._db.row(
            "SELECT * FROM deployments WHERE service = ? AND environment = ? AND digest = ? AND state = 'success'"
            " ORDER BY id DESC LIMIT 1",
            (service, environment, digest),
        )
        return None if row is None else rows.deployment(row)

    async def unknown(self, service: str, environment: Environment) -> list[Deployment]:
        """Those that were lost sight of, oldest first."""
        found = await self._db.rows(
            "SELECT * FROM deployments WHERE service = ? AND environment = ? AND state = 'unknown' ORDER BY id",
            (service, environment),
        )
        return [rows.deployment(row) for row in found]

    async def newest_main_number(self, service: str, environment: Environment) -> int | None:
        """The number of the newest `main` run that was deployed there."""
        row = await self._db.row(
            "SELECT max(r.number) AS number FROM deployments d JOIN runs r ON r.id = d.run"
            " WHERE d.service = ? AND d.environment = ? AND d.state = 'success' AND d.trigger = 'main'",
            (service, environment),
        )
        return None if row is None else row["number"]

    async def transition(
        self,
        deployment: Deployment,
        event: DeploymentEvent,
        *,
        reason: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """As `Runs.transition`."""
        state = next_deployment_state(deployment.state, event)
        ended = state not in DEPLOYMENT_LOCKS
        async with self._db.transaction():
            self._db.mark(f"deployment.{deployment.environment}.{event}")
            changed = await self._db.write(
                "UPDATE deployments SET state = ?, reason = ?, detail = ?,"
                " ended_at = CASE WHEN ? THEN ? ELSE NULL END WHERE id = ? AND state = ?",
                (
                    state,
                    reason,
                    rows.merged(rows.to_json(deployment.detail), detail or {}),
                    int(ended),
                    rows.to_time(utc_now()),
                    deployment.id,
                    deployment.state,
                ),
            )
            if changed != 1:
                raise StaleStateError(f"deployment {deployment.id} is no longer {deployment.state}")
            await self._events.add(
                "deployment",
                event,
                service=deployment.service,
                run=deployment.run,
                from_state=deployment.state,
                to_state=state,
                reason=reason,
                data={
                    "deployment": deployment.id,
                    "environment": deployment.environment,
                    "commit": deployment.commit,
                },
            )
            return await self.get(deployment.id)

    async def record_journal(self, deployment: int, entries: Mapping[str, Any]) -> None:
        """Adds the target's own steps; durable when it returns. A None takes an entry away."""
        async with self._db.transaction():
            self._db.mark(f"deployment.journal.{'+'.join(sorted(entries))}")
            row = await self._db.row("SELECT journal FROM deployments WHERE id = ?", (deployment,))
            assert row is not None
            journal = rows.merged(row["journal"], entries)
            await self._db.write("UPDATE deployments SET journal = ? WHERE id = ?", (journal, deployment))

    async def hold(self, service: str) -> Hold | None:
        row = await self._db.row("SELECT * FROM holds WHERE service = ?", (service,))
        return None if row is None else rows.hold(row)

    async def set_hold(self, service: str, *, why: str, by: str, commit: str | None, origin: str | None = None) -> Hold:
        """Puts a service on hold; a hold that is there keeps its beginning and gets the new words."""
        async with self._db.transaction():
            self._db.mark("hold.set")
            await self._db.write(
                "INSERT INTO holds (service, why, by, since, commit_sha) VALUES (?, ?, ?, ?, ?) ON CONFLICT (service)"
                " DO UPDATE SET why = excluded.why, by = excluded.by, released_by_run = NULL,"
                " commit_sha = coalesce(excluded.commit_sha, commit_sha)",
                (service, why, by, rows.to_time(utc_now()), commit),
            )
            await self._events.add(
                "action", "hold", service=service, reason=why, actor=by, origin=origin, data={"commit": commit}
            )
            hold = await self.hold(service)
            assert hold is not None
            return hold

    async def release_with(self, service: str, run: str) -> None:
        """The hold will end when that run's production deployment has succeeded."""
        async with self._db.transaction():
            await self._db.write("UPDATE holds SET released_by_run = ? WHERE service = ?", (run, service))

    async def end_hold(self, service: str, *, by: str, run: str | None = None, origin: str | None = None) -> bool:
        """False when there was none."""
        async with self._db.transaction():
            self._db.mark("hold.end")
            ended = bool(await self._db.write("DELETE FROM holds WHERE service = ?", (service,)))
            if ended:
                await self._events.add("action", "release", service=service, run=run, actor=by, origin=origin)
            return ended
