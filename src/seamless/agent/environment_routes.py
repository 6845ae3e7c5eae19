"""The API's routes about environments in AWS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Response
from fastapi.responses import StreamingResponse

from seamless import wire_environments
from seamless.agent.cloud_environments import Environments
from seamless.agent.peer import peer
from seamless.model import Actor, Environment

Peer = Annotated[Actor, Depends(peer)]


def add_environments(app: FastAPI, environments: Environments) -> None:
    @app.get("/v1/environments/{environment}")
    async def show(
        environment: Environment, region: str | None = None, cluster: str | None = None
    ) -> wire_environments.EnvironmentJSON:
        return await environments.show(environment, region, cluster)

    @app.post("/v1/environments/{environment}/plan")
    async def plan(
        actor: Peer, environment: Environment, asked: wire_environments.EnvironmentRequest
    ) -> wire_environments.EnvironmentPlanJSON:
        return await environments.plan(actor, environment, asked)

    @app.post("/v1/environments/{environment}/up", status_code=202)
    async def up(
        actor: Peer, environment: Environment, asked: wire_environments.EnvironmentRequest
    ) -> wire_environments.StackOperationJSON:
        return await environments.up(actor, environment, asked)

    @app.post("/v1/environments/{environment}/down", status_code=202)
    async def down(
        actor: Peer, environment: Environment, asked: wire_environments.EnvironmentDownRequest
    ) -> wire_environments.StackOperationJSON:
        name, region, cluster = asked["name"], asked.get("region"), asked.get("cluster")
        return await environments.down(actor, environment, name, region, cluster)

    @app.get("/v1/environments/{environment}/progress", response_class=Response)
    async def progress(
        environment: Environment,
        stack: str,
        since: datetime,
        action: Literal["create", "change", "delete"],
        region: str | None = None,
        cluster: str | None = None,
    ) -> Response:
        async def lines() -> AsyncIterator[str]:
            async for line in environments.follow(environment, stack, since, action, region, cluster):
                yield json.dumps(line) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")
