"""The API's routes about the agent and its host, for those who look after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, FastAPI

from seamless import wire
from seamless.agent.access import Role
from seamless.agent.notifying import Notifications
from seamless.agent.operations import Operations
from seamless.agent.peer import peer
from seamless.agent.resources import Resources
from seamless.findings import to_json
from seamless.model import Actor

Peer = Annotated[Actor, Depends(peer)]


@dataclass(frozen=True, slots=True)
class Host:
    """What these routes stand on. `about` answers the handshake; `reload` takes who asks, and raises ConfigError."""

    resources: Resources
    operations: Operations
    about: Callable[[], wire.VersionJSON]
    reload: Callable[[str], Awaitable[None]]
    notifications: Notifications


def add_host(app: FastAPI, host: Host) -> None:
    operations = host.operations

    @app.get("/v1/version")
    async def version() -> wire.VersionJSON:
        return host.about()

    @app.post("/v1/reload")
    async def reload(actor: Peer) -> wire.VersionJSON:
        operations.require(actor, Role.ADMIN, "reload the configuration")
        await host.reload(actor.name)
        return host.about()

    @app.post("/v1/notify/test")
    async def try_notifications(actor: Peer, asked: wire.NotifyTestRequest) -> list[wire.FindingJSON]:
        operations.require(actor, Role.OPERATOR, "send test notifications")
        found = await host.notifications.try_out(actor, asked.get("name"))
        return [cast(wire.FindingJSON, to_json(finding)) for finding in found]
