"""The routes of a stage's log: its bytes, when they were written, and what is found in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Final

from fastapi import FastAPI, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from seamless.agent.logs import LogId
from seamless.agent.operations import Operations
from seamless.agent.resources import Resources
from seamless.agent.store.rows import to_time
from seamless.errors import NotFoundError, UsageError
from seamless.model import Run, StageName
from seamless.transitions import STAGE_ENDED
from seamless.wire_logs import LogPositionJSON, LogSearchJSON

_PATH: Final = "/v1/runs/{run}/stages/{stage}/log"
_CHUNK: Final = 256 * 1024

Offset = Annotated[int, Query(ge=0, le=2**62)]


def add_logs(app: FastAPI, resources: Resources, operations: Operations) -> None:
    logs, store = resources.logs, resources.store

    async def find(run: str, stage: str) -> tuple[Run, LogId]:
        found = await operations.find_run(run)
        name = stage_name(stage)
        if found.stage(name) is None:
            raise NotFoundError(f"{found.id} has no stage {stage}")
        return found, LogId(found.id, name)

    @app.get("/v1/runs/{run}/stages/{stage}/artifacts", response_class=Response)
    async def artifacts(run: str, stage: str) -> Response:
        found, log = await find(run, stage)
        archive = resources.artifacts(found.id, log.stage)
        if not archive.exists():
            raise NotFoundError(f"{log.stage} of {found.id} keeps no artifacts", hint=f"seamless artifacts {found.id}")
        return FileResponse(archive, media_type="application/gzip")

    @app.get(_PATH, response_class=Response)
    async def read(
        run: str,
        stage: str,
        offset: Offset = 0,
        limit: Annotated[int | None, Query(ge=0, le=2**62)] = None,
        follow: bool = False,
    ) -> Response:
        found, log = await find(run, stage)
        size = await logs.size(log)

        async def is_over() -> bool:
            now = (await store.runs.get(found.id)).stage(log.stage)
            return now is None or now.state in STAGE_ENDED

        async def read_on() -> AsyncIterator[bytes]:
            at, end = offset, size if limit is None else min(size, offset + limit)
            while at < end and (data := await logs.read(log, at, min(end - at, _CHUNK))):
                at += len(data)
                yield data

        return StreamingResponse(
            logs.follow(log, offset, is_over) if follow else read_on(),
            media_type="application/octet-stream",
            headers={"Seamless-Log-Size": str(size)},
        )

    @app.get(f"{_PATH}/times")
    async def times(
        run: str, stage: str, offset: Offset = 0, limit: Annotated[int, Query(ge=1, le=10000)] = 1000
    ) -> list[tuple[int, str]]:
        _, log = await find(run, stage)
        stamps = await logs.times(log, offset, limit=limit)
        return [(stamp.offset, to_time(stamp.at)) for stamp in stamps]

    @app.get(f"{_PATH}/search")
    async def search(
        run: str,
        stage: str,
        pattern: Annotated[str, Query(min_length=1, max_length=1000)],
        offset: Offset = 0,
        backwards: bool = False,
        ignore_case: bool = False,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> LogSearchJSON:
        _, log = await find(run, stage)
        found, size = await logs.search(log, pattern, offset, ignore_case=ignore_case, backwards=backwards, limit=limit)
        return {
            "matches": [
                {"offset": match.offset, "text": match.text.decode(errors="replace")} for match in found.matches
            ],
            "reached": found.reached,
            "finished": found.reached <= 0 if backwards else found.reached >= size,
            "size": size,
        }

    @app.get(f"{_PATH}/position")
    async def position(
        run: str,
        stage: str,
        offset: Annotated[int | None, Query(ge=0, le=2**62)] = None,
        line: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        at: datetime | None = None,
    ) -> LogPositionJSON:
        _, log = await find(run, stage)
        match offset, line, at:
            case int(), None, None:
                number, start = await logs.line_at(log, offset)
            case None, int(), None:
                number, start = await logs.start_of_line(log, line)
            case None, None, datetime():
                number, start = await logs.line_at(log, await logs.offset_at(log, at.astimezone()))
            case _:
                raise UsageError("a position is asked for by one of offset, line and at", hint="see docs/api.md")
        stamps = await logs.times(log, start, limit=1)
        return {"line": number, "offset": start, "at": to_time(stamps[0].at) if stamps else None}


def stage_name(name: str) -> StageName:
    try:
        return StageName(name)
    except ValueError:
        raise UsageError(f"there is no stage {name}", hint=f"one of {', '.join(StageName)}") from None
