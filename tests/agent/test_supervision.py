"""systemd's side of the agent, against a real notify socket."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Iterator

import pytest

from seamless.agent.supervision import Supervisor


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd makes it, and how it is named to its services."""
    with tempfile.TemporaryDirectory(prefix="s") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        name = f"{folder}/notify"
        one.bind(name if request.param == "path" else f"\0{name}")
        one.settimeout(60)
        yield one, name if request.param == "path" else f"@{name}"


def test_what_is_told_and_when(manager: tuple[socket.socket, str]) -> None:
    heard, address = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    supervisor = Supervisor(environment)
    assert environment == {"HOME": "/"}, "the programs that the agent starts would speak to systemd as well"
    supervisor.ready("answers")
    assert heard.recv(100) == b"READY=1\nSTATUS=answers"
    supervisor.stopping()
    assert heard.recv(100).startswith(b"STOPPING=1\n")


def test_the_loop_pings_faster_than_the_period_and_not_when_it_hangs(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, address = manager
    period_s = 0.3
    sleep, slept_s = asyncio.sleep, []

    async def note(delay_s: float) -> None:
        slept_s.append(delay_s)
        await sleep(delay_s)

    monkeypatch.setattr(asyncio, "sleep", note)
    supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(period_s * 1e6))})

    def pings() -> int:
        heard.setblocking(False)
        count = 0
        try:
            while heard.recv(100) == b"WATCHDOG=1":
                count += 1
        except BlockingIOError:
            return count
        raise AssertionError("something else was told")

    async def live_and_hang() -> tuple[int, int]:
        watching = asyncio.create_task(supervisor.watch())
        while len(slept_s) < 6:
            await sleep(0.01)
        alive = pings()
        time.sleep(2 * period_s)  # noqa: ASYNC251 - the loop hangs
        hung = pings()
        watching.cancel()
        return alive, hung

    alive, hung = asyncio.run(live_and_hang())
    assert alive == len(slept_s)
    assert max(slept_s) <= period_s / 2, "fewer than two a period: systemd would end a healthy agent that is late once"
    assert hung == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "none"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_who_listens_is_no_harm(environment: dict[str, str]) -> None:
    supervisor = Supervisor(environment)
    supervisor.ready("answers")
    supervisor.stopping()
    asyncio.run(asyncio.wait_for(supervisor.watch(), 60))
