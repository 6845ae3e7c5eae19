"""The API's routes about the agent and its host, for those who look after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Response
from fastapi.responses import StreamingResponse

from seamless import findings, wire
from seamless.agent import backup
from seamless.agent.access import Role
from seamless.agent.checking import Checker
from seamless.agent.doctor import Examination, examine
from seamless.agent.housekeeping import Housekeeper
from seamless.agent.notifying import Notifications
from seamless.agent.operations import Operations
from seamless.agent.peer import peer
from seamless.agent.resources import Resources
from seamless.findings import Finding, to_json
from seamless.model import Actor

Peer = Annotated[Actor, Depends(peer)]


@dataclass(frozen=True, slots=True)
class Host:
    """What these routes stand on. `about` answers the handshake; `reload` takes who asks, and raises ConfigError."""

    resources: Resources
    operations: Operations
    about: Callable[[], wire.VersionJSON]
    reload: Callable[[Actor], Awaitable[None]]
    notifications: Notifications
    housekeeper: Housekeeper
    examinations: Sequence[Examination] = ()  # what doctor looks at beyond the host itself


def add_host(app: FastAPI, host: Host) -> None:
    operations = host.operations

    @app.get("/v1/version")
    async def version() -> wire.VersionJSON:
        return host.about()

    @app.post("/v1/reload")
    async def reload(actor: Peer) -> wire.VersionJSON:
        operations.require(actor, Role.ADMIN, "reload the configuration")
        await host.reload(actor)
        return host.about()

    @app.get("/v1/doctor")
    async def doctor() -> list[wire.FindingJSON]:
        more = [*host.examinations, lambda: _of_agent(host)]
        return _told(await examine(host.resources.config(), more))

    @app.post("/v1/check")
    async def check(actor: Peer, offline: bool = False) -> list[wire.FindingJSON]:
        operations.require(actor, Role.OPERATOR, "check the configuration")
        checker = Checker(host.resources.forge, host.resources.data_dir / "work")
        return _told(await checker.check(host.resources.config().file, offline=offline))

    @app.post("/v1/gc")
    async def collect(actor: Peer, dry_run: bool = False) -> list[wire.GarbageJSON]:
        if not dry_run:
            operations.require(actor, Role.ADMIN, "collect garbage")
        found = await host.housekeeper.collect(dry_run=dry_run, actor=actor)
        return [
            {"kind": one.kind, "name": one.name, "why": one.why, "bytes": one.size, "kept": one.kept} for one in found
        ]

    @app.get("/v1/backup", response_class=Response)
    async def back_up(actor: Peer) -> Response:
        operations.require(actor, Role.ADMIN, "make a backup")
        resources = host.resources
        backup.check_room(resources.data_dir)
        await resources.store.events.add("action", "backup", actor=actor.name, origin=actor.origin)
        snapshot = await backup.snapshot(resources.store, resources.data_dir)
        blocks = backup.stream(snapshot, resources.data_dir, resources.config().file)

        async def body() -> AsyncIterator[bytes]:
            try:
                while block := await asyncio.to_thread(next, blocks, b""):
                    yield block
            finally:
                snapshot.unlink(missing_ok=True)

        return StreamingResponse(body(), media_type="application/gzip")

    @app.post("/v1/notify/test")
    async def try_notifications(actor: Peer, asked: wire.NotifyTestRequest) -> list[wire.FindingJSON]:
        operations.require(actor, Role.OPERATOR, "send test notifications")
        found = await host.notifications.try_out(actor, asked.get("name"))
        return _told(found)


def _told(found: Sequence[Finding]) -> list[wire.FindingJSON]:
    return [cast(wire.FindingJSON, to_json(finding)) for finding in found]


async def _of_agent(host: Host) -> list[Finding]:
    """The agent's own state."""
    about = host.about()
    found = [findings.ok("agent", f"{about['version']}, pid {about['pid']}, {about['config_file']}")]
    if about["config_error"]:
        found.append(findings.error("configuration", f"not in force: {about['config_error']}", "seamless check"))
    found += [findings.error("agent", trouble, "seamless gc") for trouble in about["trouble"]]
    for name in host.resources.config().services:
        if (problem := await host.resources.store.heads.problem(name)) is not None:
            found.append(findings.error(f"services.{name}.repo", problem, "seamless check"))
    return found
