"""Runs and their stages: created once, changed by transitions of the table only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.agent.store.events import Events
from seamless.errors import NotFoundError, ProgrammingError
from seamless.model import (
    Approval,
    CancelRequest,
    Clock,
    Run,
    RunOptions,
    Stage,
    StageName,
    Trigger,
    Trust,
    utc_now,
)
from seamless.transitions import (
    RUN_ENDED,
    STAGE_ENDED,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    next_run_state,
    next_stage_state,
)


class StaleStateError(ProgrammingError):
    """Somebody else moved it first: the compare of a compare-and-set failed."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is made of before it has a number."""

    service: str
    trigger: Trigger
    trust: Trust
    ref: str
    commit: str
    subject: str
    author: str
    requested_by: str
    parameters: Mapping[str, Any]
    options: RunOptions
    stages: Sequence[StageName]
    base: str | None = None
    rerun_of: str | None = None
    approval: Approval | None = None  # of a fork's commit, given already


class Runs:
    def __init__(self, database: Database, events: Events) -> None:
        self._db = database
        self._events = events

    async def create(self, new: NewRun) -> Run:
        """Stores an idle run with idle stages, and its event."""
        async with self._db.transaction():
            self._db.mark("run.create")
            await self._db.write("INSERT OR IGNORE INTO services (name) VALUES (?)", (new.service,))
            row = await self._db.row(
                "UPDATE services SET last_number = last_number + 1 WHERE name = ? RETURNING last_number", (new.service,)
            )
            assert row is not None
            number = row["last_number"]
            identity = f"{new.service}-{number}"
            await self._db.write(
                "INSERT INTO runs (id, service, number, trigger, trust, ref, commit_sha, base, subject, author, state,"
                " requested_by, created_at, parameters, options, rerun_of, approval)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    identity,
                    new.service,
                    number,
                    new.trigger,
                    new.trust,
                    new.ref,
                    new.commit,
                    new.base,
                    new.subject,
                    new.author,
                    RunState.IDLE,
                    new.requested_by,
                    rows.to_time(utc_now()),
                    rows.to_json(new.parameters),
                    rows.to_json(new.options),
                    new.rerun_of,
                    None if new.approval is None else rows.to_json(new.approval),
                ),
            )
            for position, stage in enumerate(new.stages):
                await self._db.write(
                    "INSERT INTO stages (run, position, name, state) VALUES (?, ?, ?, ?)",
                    (identity, position, stage, StageState.IDLE),
                )
            await self._events.add(
                "run",
                "create",
                service=new.service,
                run=identity,
                to_state=RunState.IDLE,
                actor=new.requested_by,
                data={"trigger": new.trigger, "commit": new.commit, "ref": new.ref, "subject": new.subject},
            )
            return await self.get(identity)

    async def get(self, run: str) -> Run:
        """Raises NotFoundError."""
        async with self._db.reading():  # a run and its stages, as they were at one moment
            row = await self._db.row("SELECT * FROM runs WHERE id = ?", (run,))
            if row is None:
                raise NotFoundError(f"there is no run {run}", hint="seamless runs lists them")
            return rows.run(row, await self._stages(run))

    async def _stages(self, run: str) -> tuple[Stage, ...]:
        found = await self._db.rows("SELECT * FROM stages WHERE run = ? ORDER BY position", (run,))
        return tuple(rows.stage(row) for row in found)

    async def _all(self, sql: str, parameters: Sequence[Any]) -> list[Run]:
        async with self._db.reading():
            return [rows.run(row, await self._stages(row["id"])) for row in await self._db.rows(sql, parameters)]

    async def newest(
        self,
        *,
        service: str | None = None,
        states: Sequence[RunState] | None = None,
        before: Run | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Newest first; `before` continues a listing."""
        wanted = ",".join(states) if states else None
        return await self._all(
            "SELECT * FROM runs WHERE (?1 IS NULL OR service = ?1)"
            " AND (?2 IS NULL OR instr(',' || ?2 || ',', ',' || state || ','))"
            " AND (?3 IS NULL OR rowid < (SELECT rowid FROM runs WHERE id = ?3)) ORDER BY rowid DESC LIMIT ?4",
            (service, wanted, None if before is None else before.id, limit),
        )

    async def active(self) -> list[Run]:
        """Every run that has not ended, oldest first."""
        return await self._all(
            "SELECT * FROM runs WHERE state IN ('idle', 'in_progress', 'awaiting_approval') ORDER BY rowid", ()
        )

    async def active_of(self, service: str, ref: str) -> list[Run]:
        """A service's runs of a ref that have not ended, oldest first."""
        return await self._all(
            "SELECT * FROM runs WHERE service = ? AND ref = ?"
            " AND state IN ('idle', 'in_progress', 'awaiting_approval') ORDER BY rowid",
            (service, ref),
        )

    async def any_of_pull_requests(self, services: Sequence[str]) -> bool:
        """Whether a run of a pull request, of one of these services, has not ended."""
        row = await self._db.row(
            "SELECT 1 FROM runs WHERE state IN ('idle', 'in_progress', 'awaiting_approval')"
            " AND trigger IN ('pr_open', 'pr_sync') AND service IN (SELECT value FROM json_each(?)) LIMIT 1",
            (json.dumps(services),),
        )
        return row is not None

    async def word_for(self, service: str, ref: str, commit: str) -> Approval | None:
        """The approval that somebody gave for that commit of a fork's pull request."""
        found = await self._all(
            "SELECT * FROM runs WHERE service = ? AND ref = ? AND commit_sha = ? AND json_extract(options, '$.gated')"
            " AND json_extract(approval, '$.by') IS NOT NULL ORDER BY rowid DESC LIMIT 1",
            (service, ref, commit),
        )
        return found[0].approval if found else None

    async def uncleaned(self) -> list[Run]:
        """Runs that have ended but may have left something behind."""
        return await self._all(
            "SELECT * FROM runs WHERE cleaned = 0 AND state IN ('success', 'failure', 'cancelled') ORDER BY rowid", ()
        )

    async def mark_cleaned(self, run: str) -> None:
        async with self._db.transaction():
            self._db.mark("run.cleaned")
            await self._db.write("UPDATE runs SET cleaned = 1 WHERE id = ?", (run,))

    async def of_branch(self, service: str, limit: int = 50) -> list[Run]:
        """Runs of the service's branch (main, or manual on it) that ended with a verdict, newest first."""
        return await self._all(
            "SELECT * FROM runs WHERE service = ? AND json_extract(options, '$.on_branch')"
            " AND trigger IN ('main', 'manual') AND state IN ('success', 'failure') ORDER BY rowid DESC LIMIT ?",
            (service, limit),
        )

    async def newest_of_commit(self, ref: str, commit: str) -> list[Run]:
        """Of each service, the newest run of that ref and commit."""
        return await self._all(
            "SELECT * FROM runs WHERE rowid IN (SELECT max(rowid) FROM runs WHERE ref = ? AND commit_sha = ?"
            " GROUP BY service) ORDER BY service",
            (ref, commit),
        )

    async def transition(self, run: Run, event: RunEvent, *, reason: str | None = None, actor: str = "agent") -> Run:
        """Applies `event` to the run as it was read; StaleStateError when its state has changed since."""
        state = next_run_state(run.state, event)
        now = rows.to_time(utc_now())
        async with self._db.transaction():
            self._db.mark(f"run.{event}")
            changed = await self._db.write(
                "UPDATE runs SET state = ?, reason = ?, started_at = CASE WHEN ? THEN coalesce(started_at, ?)"
                " ELSE started_at END, ended_at = CASE WHEN ? THEN ? ELSE ended_at END WHERE id = ? AND state = ?",
                (state, reason, state is RunState.IN_PROGRESS, now, state in RUN_ENDED, now, run.id, run.state),
            )
            if changed != 1:
                raise StaleStateError(f"{run.id} is no longer {run.state}")
            await self._events.add(
                "run",
                event,
                service=run.service,
                run=run.id,
                from_state=run.state,
                to_state=state,
                reason=reason,
                actor=actor,
            )
            return await self.get(run.id)

    async def transition_stage(
        self,
        run: Run,
        stage: Stage,
        event: StageEvent,
        *,
        reason: str | None = None,
        exit_code: int | None = None,
        detail: Mapping[str, Any] | None = None,
        actor: str = "agent",
    ) -> Stage:
        """As `transition`. START counts an attempt and forgets the journal; INTERRUPT counts itself."""
        state = next_stage_state(stage.state, event)
        starting = event is StageEvent.START
        now = rows.to_time(utc_now())
        async with self._db.transaction():
            self._db.mark(f"stage.{stage.name}.{event}")
            changed = await self._db.write(
                "UPDATE stages SET state = ?1, reason = ?2, exit_code = ?3, detail = ?4,"
                " attempt = attempt + ?5, interruptions = interruptions + ?6,"
                " started_at = CASE WHEN ?5 THEN ?7 ELSE started_at END,"
                " ended_at = CASE WHEN ?8 THEN ?7 WHEN ?5 THEN NULL ELSE ended_at END,"
                " journal = CASE WHEN ?5 THEN '{}' ELSE journal END,"
                " clock = CASE WHEN ?5 THEN NULL ELSE clock END"
                " WHERE run = ?9 AND name = ?10 AND state = ?11 AND attempt = ?12",
                (
                    state,
                    reason,
                    exit_code,
                    rows.merged(rows.to_json(stage.detail), detail or {}),
                    int(starting),
                    int(event in (StageEvent.INTERRUPT, StageEvent.GIVE_UP)),
                    now,
                    int(state in STAGE_ENDED),
                    run.id,
                    stage.name,
                    stage.state,
                    stage.attempt,
                ),
            )
            if changed != 1:
                raise StaleStateError(f"{stage.name} of {run.id} is no longer {stage.state}")
            await self._events.add(
                "stage",
                event,
                service=run.service,
                run=run.id,
                stage=stage.name,
                from_state=stage.state,
                to_state=state,
                reason=reason,
                actor=actor,
                data={"attempt": stage.attempt + int(starting), "exit_code": exit_code},
            )
            row = await self._db.row("SELECT * FROM stages WHERE run = ? AND name = ?", (run.id, stage.name))
            assert row is not None
            return rows.stage(row)

    async def record_journal(self, run: str, stage: StageName, attempt: int, entries: Mapping[str, Any]) -> None:
        """Adds what this attempt has done so far; durable when it returns."""
        async with self._db.transaction():
            self._db.mark(f"stage.{stage}.journal.{'+'.join(sorted(entries))}")
            row = await self._db.row(
                "SELECT journal FROM stages WHERE run = ? AND name = ? AND attempt = ?", (run, stage, attempt)
            )
            if row is not None:
                journal = rows.merged(row["journal"], entries)
                await self._db.write("UPDATE stages SET journal = ? WHERE run = ? AND name = ?", (journal, run, stage))

    async def set_stage_clock(self, run: str, stage: StageName, clock: Clock) -> None:
        async with self._db.transaction():
            await self._db.write(
                "UPDATE stages SET clock = ? WHERE run = ? AND name = ?", (rows.to_json(clock), run, stage)
            )

    async def set_clock(self, run: str, clock: Clock) -> None:
        async with self._db.transaction():
            await self._db.write("UPDATE runs SET clock = ? WHERE id = ?", (rows.to_json(clock), run))

    async def set_approval(self, run: str, approval: Approval) -> None:
        async with self._db.transaction():
            await self._db.write("UPDATE runs SET approval = ? WHERE id = ?", (rows.to_json(approval), run))

    async def request_cancel(self, run: Run, request: CancelRequest, *, origin: str | None = None) -> bool:
        """False when the run has ended, or its cancellation was asked for before."""
        async with self._db.transaction():
            self._db.mark("run.request_cancel")
            changed = await self._db.write(
                "UPDATE runs SET cancel = ? WHERE id = ? AND cancel IS NULL"
                " AND state IN ('idle', 'in_progress', 'awaiting_approval')",
                (rows.to_json(request), run.id),
            )
            if changed:
                await self._events.add(
                    "action",
                    request.event,
                    service=run.service,
                    run=run.id,
                    reason=request.why,
                    actor=request.by,
                    origin=origin,
                )
            return bool(changed)

    async def usual_durations(self, service: str) -> dict[StageName, float]:
        """Median seconds of each stage's last ten successes that did something."""
        found = await self._db.rows(
            "SELECT name, seconds FROM (SELECT s.name AS name,"
            " (julianday(s.ended_at) - julianday(s.started_at)) * 86400.0 AS seconds,"
            " row_number() OVER (PARTITION BY s.name ORDER BY r.rowid DESC) AS age"
            " FROM stages s JOIN runs r ON r.id = s.run"
            " WHERE r.service = ? AND s.state = 'success' AND s.started_at IS NOT NULL) WHERE age <= 10",
            (service,),
        )
        seconds: dict[StageName, list[float]] = {}
        for row in found:
            seconds.setdefault(StageName(row["name"]), []).append(row["seconds"])
        return {name: median(values) for name, values in seconds.items()}
