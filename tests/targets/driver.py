"""Deploys in a process of its own, which a crash point may kill. Reads a JSON object on standard input:

`installation`, `deployment`, `image`, `changes` (of the request), `journal` (a file), and `kill_started` when the
new container is to be killed as soon as it runs in the old one's place. Writes the verdict to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from seamless.targets.docker import DockerTarget

from .deploying import FileJournal, deploy_wholly, request


async def deploy(order: dict[str, Any]) -> dict[str, Any]:
    name = f"seamless-{order['installation']}-staging-web-{order['deployment']}"

    async def log(line: str) -> None:
        if order.get("kill_started") and line == f"started {name}":
            with contextlib.suppress(APIError):
                docker.from_env().api.kill(name)

    target, journal = DockerTarget(order["installation"]), FileJournal(Path(order["journal"]))
    going = request(order["deployment"], order["image"], **order["changes"])
    outcome = await deploy_wholly(target, going, journal, log)
    return {"event": outcome.event, "reason": outcome.reason, "detail": dict(outcome.detail)}


def start_driver(order: Mapping[str, Any], *, within: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    """Starts this module as a process, by the command `within` if there is one; it has read its order already."""
    package = __package__ or ""
    folder = Path(__file__).parents[package.count(".") + 1]
    process = subprocess.Popen(
        [*within, sys.executable, "-m", f"{package}.driver"],
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    process.stdin = None
    return process


if __name__ == "__main__":
    json.dump(asyncio.run(deploy(json.load(sys.stdin))), sys.stdout)
