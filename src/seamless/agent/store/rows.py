"""Between rows and the model's values. Nothing else knows how a value is written down."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from seamless.model import (
    Approval,
    CancelRequest,
    Clock,
    Deployment,
    DigestKind,
    Environment,
    Event,
    Hold,
    Image,
    ImageRef,
    Run,
    RunOptions,
    Stage,
    StageName,
    Trigger,
    Trust,
)
from seamless.transitions import DeploymentState, RunEvent, RunState, StageState


def to_json(value: Any) -> str:
    """A mapping or one of the model's dataclasses as JSON text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, default=_encode, separators=(",", ":"), sort_keys=True)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_time(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def merged(stored: str, entries: Mapping[str, Any]) -> str:
    """The JSON object `stored` with these entries laid over it; a None takes one away. Not by SQLite's json_patch,
    which goes down into what is nested and takes every null out of it."""
    combined = {**json.loads(stored), **entries}
    return to_json({key: value for key, value in combined.items() if value is not None})


def to_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time(value: str) -> datetime:
    return datetime.fromisoformat(value)


def optional_time(value: str | None) -> datetime | None:
    return None if value is None else time(value)


def run(row: sqlite3.Row, stages: tuple[Stage, ...]) -> Run:
    return Run(
        id=row["id"],
        service=row["service"],
        number=row["number"],
        trigger=Trigger(row["trigger"]),
        trust=Trust(row["trust"]),
        ref=row["ref"],
        commit=row["commit_sha"],
        base=row["base"],
        subject=row["subject"],
        author=row["author"],
        state=RunState(row["state"]),
        reason=row["reason"],
        requested_by=row["requested_by"],
        created_at=time(row["created_at"]),
        started_at=optional_time(row["started_at"]),
        ended_at=optional_time(row["ended_at"]),
        parameters=json.loads(row["parameters"]),
        options=_options(json.loads(row["options"])),
        rerun_of=row["rerun_of"],
        cancel=_cancel(row["cancel"]),
        approval=_approval(row["approval"]),
        clock=_clock(row["clock"]),
        stages=stages,
    )


def stage(row: sqlite3.Row) -> Stage:
    return Stage(
        run=row["run"],
        name=StageName(row["name"]),
        state=StageState(row["state"]),
        attempt=row["attempt"],
        interruptions=row["interruptions"],
        reason=row["reason"],
        exit_code=row["exit_code"],
        started_at=optional_time(row["started_at"]),
        ended_at=optional_time(row["ended_at"]),
        detail=json.loads(row["detail"]),
        journal=json.loads(row["journal"]),
        clock=_clock(row["clock"]),
    )


def image_ref(row: sqlite3.Row) -> ImageRef:
    return ImageRef(digest=row["digest"], kind=DigestKind(row["kind"]), repository=row["repository"])


def image(row: sqlite3.Row) -> Image:
    return Image(
        id=row["id"],
        service=row["service"],
        commit=row["commit_sha"],
        ref=image_ref(row),
        tag=row["tag"],
        run=row["run"],
        build_key=row["build_key"],
        trusted=bool(row["trusted"]),
        checks_passed=bool(row["checks_passed"]),
        built_at=time(row["built_at"]),
        gone_at=optional_time(row["gone_at"]),
    )


def deployment(row: sqlite3.Row) -> Deployment:
    return Deployment(
        id=row["id"],
        service=row["service"],
        environment=Environment(row["environment"]),
        run=row["run"],
        trigger=Trigger(row["trigger"]),
        commit=row["commit_sha"],
        image=image_ref(row),
        state=DeploymentState(row["state"]),
        reason=row["reason"],
        created_at=time(row["created_at"]),
        ended_at=optional_time(row["ended_at"]),
        journal=json.loads(row["journal"]),
        detail=json.loads(row["detail"]),
    )


def hold(row: sqlite3.Row) -> Hold:
    return Hold(
        service=row["service"],
        why=row["why"],
        by=row["by"],
        since=time(row["since"]),
        commit=row["commit_sha"],
        released_by_run=row["released_by_run"],
    )


def event(row: sqlite3.Row) -> Event:
    return Event(
        id=row["id"],
        at=time(row["at"]),
        kind=row["kind"],
        service=row["service"],
        run=row["run"],
        stage=row["stage"],
        name=row["name"],
        from_state=row["from_state"],
        to_state=row["to_state"],
        reason=row["reason"],
        actor=row["actor"],
        origin=row["origin"],
        data=json.loads(row["data"]),
    )


def _options(value: dict[str, Any]) -> RunOptions:
    from_stage, environment = value.pop("from_stage", None), value.pop("environment", None)
    return RunOptions(
        **value,
        from_stage=None if from_stage is None else StageName(from_stage),
        environment=None if environment is None else Environment(environment),
    )


def _cancel(text: str | None) -> CancelRequest | None:
    if text is None:
        return None
    value = json.loads(text)
    return CancelRequest(event=RunEvent(value["event"]), why=value["why"], by=value["by"])


def _approval(text: str | None) -> Approval | None:
    if text is None:
        return None
    value = json.loads(text)
    return Approval(**{**value, "expires_at": time(value["expires_at"])})


def _clock(text: str | None) -> Clock | None:
    return None if text is None else Clock(**json.loads(text))
