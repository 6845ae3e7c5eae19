"""Whether a deployed container is healthy, asked as its callers would.

In this order: a `health` path and a port: GET answers 2xx or 3xx; the image's own HEALTHCHECK: it says
healthy; a port: it accepts connections; else the container has stayed up for one second. Whatever is asked,
a HEALTHCHECK that says unhealthy decides.

The agent asks at the container's address in its bridge network, and for a published port with a path at the
host's own, so that the whole way there is proved (the engine's proxy accepts connections in any case, so a
mere connection would prove nothing).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from seamless.targets.docker_engine import Engine
from seamless.targets.docker_plan import Check, Container, describe_exit

STAYS_UP_S: Final = 1.0
_ATTEMPT_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_STATUS_LINE_LIMIT: Final = 8192


@dataclass(frozen=True, slots=True)
class Verdict:
    """How waiting ended. `final`: more waiting would not have helped; `said`: what was seen last."""

    healthy: bool
    said: str
    attempts: int
    final: bool = False
    cancelled: bool = False


async def wait_until_healthy(
    engine: Engine, name: str, check: Check, *, remaining_s: Callable[[], float], cancel: asyncio.Event | None = None
) -> Verdict:
    """Asks until it is healthy, has ended, `remaining_s` is up, or `cancel` is set; at least once.

    A container that the engine's own end took down is started again: that is no verdict on it.
    """
    pause_s = _FIRST_PAUSE_S
    attempts = 0
    up_since = time.monotonic()
    while True:
        attempts += 1
        seen = await engine.inspect(name)
        if seen is None:
            return Verdict(False, "the container is gone", attempts, final=True)
        if seen.ended:
            if seen.started_at is None or not await engine.restarted_since(seen.started_at):
                return Verdict(False, describe_exit(seen), attempts, final=True)
            await engine.start(name, again=True)
            up_since = time.monotonic()
        elif seen.health == "unhealthy":
            return Verdict(False, "the image's HEALTHCHECK says unhealthy", attempts, final=True)
        attempt_s = min(_ATTEMPT_S, max(remaining_s(), 0.5))
        healthy, said = await _ask(seen, check, time.monotonic() - up_since, attempt_s)
        if healthy:
            after = await engine.inspect(name)
            if after is not None and after.status == "running" and after.started_at == seen.started_at:
                return Verdict(True, said, attempts)
            said = f"{said}, then the container ended"
        if cancel is not None and cancel.is_set():
            return Verdict(False, said, attempts, cancelled=True)
        if (left_s := remaining_s()) <= 0:
            return Verdict(False, said, attempts)
        await _pause(min(pause_s, left_s), cancel)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


async def ask_once(container: Container, timeout_s: float) -> bool:
    """Whether a container that was proved before answers now."""
    if not container.running or container.health == "unhealthy":
        return False
    healthy, _ = await _ask(container, Check.of(container), STAYS_UP_S, timeout_s)
    return healthy


async def _ask(container: Container, check: Check, up_s: float, timeout_s: float) -> tuple[bool, str]:
    if container.status != "running":
        return False, f"the container is {container.status}"
    if check.port is not None and check.path:
        where = ("127.0.0.1", check.publish) if check.publish is not None else (container.address, check.port)
        return await _get(*where, check.path, timeout_s)
    if container.health is not None:
        return container.health == "healthy", f"the image's HEALTHCHECK says {container.health}"
    if check.port is not None:
        return await _connect(container.address, check.port, timeout_s)
    return up_s >= STAYS_UP_S, f"up for {up_s:.1f} s"


async def _get(host: str, port: int, path: str, timeout_s: float) -> tuple[bool, str]:
    target = urllib.parse.quote(path if path.startswith("/") else f"/{path}", safe="/?&=%:@!$'()*+,;~")
    lines = (f"GET {target} HTTP/1.1", "Host: localhost", "User-Agent: seamless", "Accept: */*", "Connection: close")
    asked = f"GET {path}"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=_STATUS_LINE_LIMIT)
            with contextlib.closing(writer):
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
                status_line = await reader.readline()
    except TimeoutError:
        return False, f"{asked} was not answered in {timeout_s:.3g} s"
    except ConnectionRefusedError:
        return False, f"{asked}: connection refused"
    except (OSError, ValueError):  # ValueError: a line without end
        return False, f"{asked}: connection broken"
    protocol, _, rest = status_line.partition(b" ")
    status = rest[:3]
    if not protocol.startswith(b"HTTP/") or not status.isdigit():
        return False, f"{asked} was not answered in HTTP"
    return 200 <= int(status) < 400, f"{asked} answered {int(status)}"


async def _connect(host: str, port: int, timeout_s: float) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except OSError:  # TimeoutError is one
        return False, f"nothing accepts connections on port {port}"
    return True, f"port {port} accepts connections"


async def _pause(seconds: float, cancel: asyncio.Event | None) -> None:
    if cancel is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(cancel.wait(), seconds)
