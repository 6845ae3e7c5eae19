"""The API's routes about GitHub: its token, and webhooks. For admins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import Depends, FastAPI

from seamless import wire, wire_github
from seamless.agent.access import Role
from seamless.agent.github_setup import GitHubSetup
from seamless.agent.operations import Operations
from seamless.agent.peer import peer
from seamless.findings import Finding, to_json
from seamless.model import Actor

Peer = Annotated[Actor, Depends(peer)]


def add_github(app: FastAPI, operations: Operations, setup: GitHubSetup) -> None:
    @app.get("/v1/github")
    async def look() -> list[wire.FindingJSON]:
        return _told(await setup.examine())

    @app.post("/v1/github/token")
    async def login(actor: Peer, asked: wire_github.TokenRequest) -> list[wire.FindingJSON]:
        operations.require(actor, Role.ADMIN, "log in to GitHub")
        if asked.get("store", True):
            return _told(await setup.store_token(asked["token"], actor))
        return _told(await setup.check_token(asked["token"]))

    @app.post("/v1/github/device")
    async def begin_device(actor: Peer) -> wire_github.DeviceJSON:
        operations.require(actor, Role.ADMIN, "log in to GitHub")
        begun = await setup.begin_device()
        return {
            "device_code": begun.device_code,
            "user_code": begun.user_code,
            "verification_uri": begun.verification_uri,
            "expires_in_s": begun.expires_in_s,
            "interval_s": begun.interval_s,
        }

    @app.post("/v1/github/device/token")
    async def end_device(actor: Peer, asked: wire_github.DeviceRequest) -> list[wire.FindingJSON] | None:
        operations.require(actor, Role.ADMIN, "log in to GitHub")
        found = await setup.end_device(asked["device_code"], actor)
        return None if found is None else _told(found)

    @app.post("/v1/services/{service}/webhook")
    async def create(actor: Peer, service: str) -> list[wire.FindingJSON]:
        operations.require(actor, Role.ADMIN, f"make the webhook of {service}")
        return _told(await setup.create_webhook(service))

    @app.post("/v1/services/{service}/webhook/check")
    async def check(actor: Peer, service: str) -> list[wire.FindingJSON]:
        operations.require(actor, Role.OPERATOR, f"try the webhook of {service}")
        return _told(await setup.check_webhook(service))

    @app.delete("/v1/services/{service}/webhook")
    async def delete(actor: Peer, service: str) -> list[wire.FindingJSON]:
        operations.require(actor, Role.ADMIN, f"delete the webhook of {service}")
        return _told(await setup.delete_webhook(service))


def _told(found: Sequence[Finding]) -> list[wire.FindingJSON]:
    return [cast(wire.FindingJSON, to_json(finding)) for finding in found]
