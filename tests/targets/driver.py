"""Deploys in a process of its own, which a crash point may kill. Reads a JSON object on standard input:

`installation`, `deployment`, `image`, `changes` (of the request), `journal` (a file), `kill_started` (whether
the new container is killed as soon as it runs in the old one's place). Writes the verdict to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from seamless.targets.docker import DockerTarget

from .deploying import FileJournal, request


async def deploy(order: dict[str, Any]) -> dict[str, Any]:
    name = f"seamless-{order['installation']}-staging-web-{order['deployment']}"

    async def log(line: str) -> None:
        if order["kill_started"] and line == f"started {name}":
            with contextlib.suppress(APIError):
                docker.from_env().api.kill(name)

    outcome = await DockerTarget(order["installation"]).deploy(
        request(order["deployment"], order["image"], **order["changes"]), FileJournal(Path(order["journal"])), log
    )
    return {"event": outcome.event, "reason": outcome.reason, "detail": dict(outcome.detail)}


if __name__ == "__main__":
    json.dump(asyncio.run(deploy(json.load(sys.stdin))), sys.stdout)
