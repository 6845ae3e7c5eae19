"""The HTTP API: thin routes over the operations and the store. docs/api.md describes it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from seamless import __version__, wire
from seamless.agent.answers import error_response
from seamless.agent.api_github import add_github
from seamless.agent.api_logs import add_logs, stage_name
from seamless.agent.approvals import Approvals
from seamless.agent.cloud_environments import Environments
from seamless.agent.environment_routes import add_environments
from seamless.agent.foresight import Foresight
from seamless.agent.github_setup import GitHubSetup
from seamless.agent.host import Host, add_host
from seamless.agent.operations import Operations
from seamless.agent.peer import peer
from seamless.agent.presenting import Presenter, deployment_json, event_json, hold_json
from seamless.agent.releases import Releases
from seamless.agent.resources import Resources
from seamless.agent.shell import serve_shell
from seamless.errors import NotFoundError, SeamlessError, UnavailableError, UsageError
from seamless.model import Actor, Environment, RunOptions
from seamless.transitions import RunState
from seamless.wire_plans import PlanJSON

_API_HEADER: Final = "Seamless-API"
_HEARTBEAT_S: Final = 15.0
_LOCAL_TREE_MAX: Final = 4 * 1024**3  # bytes of a streamed tree

Peer = Annotated[Actor, Depends(peer)]


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes stand on."""

    resources: Resources
    operations: Operations
    approvals: Approvals
    releases: Releases
    presenter: Presenter
    foresight: Foresight
    host: Host
    environments: Environments
    github: GitHubSetup


def create_app(api: Api) -> FastAPI:
    app = FastAPI(
        title="Seamless",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": wire.ErrorJSON, "description": "every answer that is not 2xx"}},
    )
    _add_errors(app)
    _add_handshake(app, api)
    _add_fleet(app, api)
    _add_runs(app, api)
    add_logs(app, api.resources, api.operations)
    _add_events(app, api)
    add_host(app, api.host)
    add_environments(app, api.environments)
    add_github(app, api.operations, api.github)

    @app.websocket("/v1/runs/{run}/shell")
    async def shell(socket: WebSocket, run: str, stage: str | None = None, rows: int = 24, columns: int = 80) -> None:
        await serve_shell(socket, api.resources, api.operations, run, stage, rows, columns)

    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(SeamlessError)
    async def refused(_: Request, error: SeamlessError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return error_response(UsageError(f"{where}: {first['msg']}", hint="see docs/api.md"))

    @app.exception_handler(HTTPException)
    async def unknown_route(request: Request, error: HTTPException) -> JSONResponse:
        answer = error_response(NotFoundError(f"{request.method} {request.url.path}: {error.detail}"))
        answer.status_code = error.status_code
        return answer

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        message = f"an error in Seamless itself: {type(error).__name__}"
        answer = error_response(SeamlessError(message, hint="see the agent's log"))
        answer.headers[_API_HEADER] = str(wire.API_VERSION)  # this handler stands outside of the middleware
        return answer


def _add_handshake(app: FastAPI, api: Api) -> None:
    @app.middleware("http")
    async def handshake(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        wanted = request.headers.get(_API_HEADER)
        answer: Response
        if wanted is not None and wanted != str(wire.API_VERSION):
            answer = JSONResponse(
                {
                    "error": {
                        "code": "version",
                        "message": f"this agent ({__version__}) speaks API {wire.API_VERSION}, the client API {wanted}",
                        "hint": "install the same version on both sides, then seamless agent stop and start",
                        "exit_code": 1,
                    }
                },
                status_code=409,
            )
        else:
            answer = await call_next(request)
        answer.headers[_API_HEADER] = str(wire.API_VERSION)
        if api.host.about()["config_error"] is not None:
            answer.headers[wire.CONFIG_HEADER] = "not in force"
        return answer


def _add_fleet(app: FastAPI, api: Api) -> None:
    resources, operations, presenter = api.resources, api.operations, api.presenter

    @app.get("/v1/status")
    async def status(service: str | None = None) -> list[wire.ServiceStatusJSON]:
        if service is not None:
            operations.parameters_of(service)
            return [await presenter.service(service)]
        return await presenter.fleet()

    @app.get("/v1/services")
    async def services() -> list[wire.ServiceJSON]:
        return [
            {
                "name": name,
                "repo": parameters.repo,
                "path": parameters.path,
                "branch": parameters.branch,
                "triggers": [str(trigger) for trigger in parameters.triggers],
            }
            for name, parameters in resources.config().services.items()
        ]

    @app.get("/v1/services/{service}")
    async def service(service: str) -> dict[str, Any]:
        operations.parameters_of(service)
        return presenter.parameters(service)

    @app.post("/v1/services/{service}/promote", status_code=201)
    async def promote(actor: Peer, service: str, asked: wire.PromoteRequest) -> wire.RunJSON:
        run = await api.releases.promote(
            actor,
            service,
            release=asked.get("release", False),
            allow_rewritten=asked.get("allow_rewritten", False),
        )
        return await presenter.run(run)

    @app.post("/v1/services/{service}/hold")
    async def hold(actor: Peer, service: str, asked: wire.ReasonRequest) -> wire.HoldJSON:
        return hold_json(await api.releases.hold(actor, service, asked["why"]))

    @app.post("/v1/services/{service}/release", status_code=204)
    async def release(actor: Peer, service: str) -> None:
        await api.releases.release(actor, service)

    @app.post("/v1/rollbacks", status_code=201)
    async def rollback(actor: Peer, asked: wire.RollbackRequest) -> wire.RunJSON:
        environment = _environment(asked.get("environment") or Environment.PRODUCTION)
        if "to" not in asked:
            raise UsageError("a rollback needs the commit to go back to")
        run = await api.releases.roll_back(actor, asked["to"], asked.get("service"), environment)
        return await presenter.run(run)

    @app.get("/v1/images")
    async def images(service: str | None = None) -> list[wire.ImageJSON]:
        if service is not None:
            operations.parameters_of(service)
        return [await presenter.image(image) for image in await resources.store.images.newest(service)]

    @app.get("/v1/deployments")
    async def deployments(
        service: str | None = None,
        environment: Environment | None = None,
        before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[wire.DeploymentJSON]:
        if service is not None:
            operations.parameters_of(service)
        found = await resources.store.deployments.history(service, environment, before=before, limit=limit)
        return [deployment_json(one) for one in found]


def _add_runs(app: FastAPI, api: Api) -> None:
    resources, operations, presenter = api.resources, api.operations, api.presenter

    @app.post("/v1/services/{service}/runs", status_code=201)
    async def start(actor: Peer, service: str, asked: wire.RunRequest) -> wire.RunJSON:
        options = RunOptions(
            checks=asked.get("checks", False),
            staging=asked.get("staging", False),
            rebuild=asked.get("rebuild", False),
        )
        run = await operations.start(
            actor, service, ref=asked.get("ref"), pull_request=asked.get("pull_request"), options=options
        )
        return await presenter.run(run)

    @app.post("/v1/services/{service}/plan")
    async def plan(actor: Peer, service: str, asked: wire.RunRequest) -> PlanJSON:
        options = RunOptions(
            checks=asked.get("checks", False),
            staging=asked.get("staging", False),
            rebuild=asked.get("rebuild", False),
        )
        return await api.foresight.plan(actor, service, asked.get("ref"), options)

    @app.post("/v1/services/{service}/local-runs", status_code=201)
    async def start_local(
        actor: Peer, service: str, request: Request, commit: Annotated[str, Query(pattern="^[0-9a-f]{40,64}$")]
    ) -> wire.RunJSON:
        operations.check_local(actor, service)
        part = resources.workspaces.local_source(secrets.token_hex(8)).with_suffix(".part")
        try:
            await _receive(request, part)
            run = await operations.start_local(actor, service, commit, part)
        finally:
            part.unlink(missing_ok=True)
        return await presenter.run(run)

    @app.get("/v1/runs")
    async def runs(
        service: str | None = None,
        state: RunState | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        before: str | None = None,
    ) -> list[wire.RunJSON]:
        found = await resources.store.runs.newest(
            service=service,
            states=None if state is None else [state],
            limit=limit,
            before=None if before is None else await resources.store.runs.get(before),
        )
        if not found and before is None and service is not None:  # a service that is gone still has its runs
            operations.parameters_of(service)
        return [await presenter.run(run, approval=state is RunState.AWAITING_APPROVAL) for run in found]

    @app.get("/v1/runs/{run}")
    async def show(run: str) -> wire.RunJSON:
        return await presenter.run(await operations.find_run(run), approval=True)

    @app.post("/v1/runs/{run}/approve")
    async def approve(actor: Peer, run: str, asked: wire.ApproveRequest) -> wire.RunJSON:
        approved = await api.approvals.approve(
            actor,
            run,
            release=asked.get("release", False),
            allow_rewritten=asked.get("allow_rewritten", False),
        )
        return await presenter.run(approved)

    @app.post("/v1/runs/{run}/reject")
    async def reject(actor: Peer, run: str, asked: wire.ReasonRequest) -> wire.RunJSON:
        return await presenter.run(await api.approvals.reject(actor, run, asked["why"]))

    @app.post("/v1/runs/{run}/cancel")
    async def cancel(actor: Peer, run: str, asked: wire.ReasonRequest) -> wire.RunJSON:
        return await presenter.run(await operations.cancel(actor, run, asked["why"]))

    @app.post("/v1/runs/{run}/rerun", status_code=201)
    async def rerun(actor: Peer, run: str, asked: wire.RerunRequest) -> wire.RunJSON:
        from_stage = asked.get("from_stage")
        again = await operations.rerun(actor, run, from_stage=None if from_stage is None else stage_name(from_stage))
        return await presenter.run(again)


def _add_events(app: FastAPI, api: Api) -> None:
    events = api.resources.store.events

    @app.get("/v1/events")
    async def history(
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        kind: str | None = None,
        service: str | None = None,
        run: str | None = None,
        before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    ) -> list[wire.EventJSON]:
        found = await events.page(after=after, before=before, limit=limit, kind=kind, service=service, run=run)
        return [event_json(event) for event in found]

    @app.get("/v1/events/stream", response_class=Response)
    async def stream(
        request: Request,
        after: Annotated[int | None, Query(ge=0, le=2**62)] = None,
        service: str | None = None,
        run: str | None = None,
    ) -> Response:
        resumed = request.headers.get("Last-Event-ID", "")
        start = int(resumed) if resumed.isascii() and resumed.isdigit() else after

        async def live() -> AsyncIterator[str]:
            seen = events.newest.value if start is None else start
            yield f"id: {seen}\n\n"  # so that a stream that breaks before its first event resumes from here
            while True:
                # The newest id is read first: what is committed while we read comes with the next turn.
                newest = events.newest.value
                found = await events.page(after=seen, limit=200, service=service, run=run)
                for event in found:
                    seen = event.id
                    yield f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(event_json(event))}\n\n"
                if len(found) < 200:
                    seen = max(seen, newest)
                    try:
                        await asyncio.wait_for(events.newest.beyond(seen), _HEARTBEAT_S)
                    except TimeoutError:
                        yield ": still here\n\n"

        return StreamingResponse(live(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _receive(request: Request, part: os.PathLike[str]) -> None:
    """Writes the body to `part`, in threads, bounded."""
    received = 0
    with open(part, "wb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > _LOCAL_TREE_MAX:
                raise UsageError("the tree is larger than 4 GiB", hint="is something large not in .gitignore?")
            try:
                await asyncio.to_thread(file.write, chunk)
            except OSError as error:
                raise UnavailableError(f"the tree cannot be stored: {error.strerror}") from error


def _environment(name: str) -> Environment:
    try:
        return Environment(name)
    except ValueError:
        raise UsageError(f"there is no environment {name}", hint="staging or production") from None
