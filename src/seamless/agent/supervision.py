"""What the agent tells systemd: that it is ready, reloads or stops, and, from the event loop, that it is alive.

The protocol is sd_notify(3)'s and sd_watchdog_enabled(3)'s: datagrams to the socket that $NOTIFY_SOCKET names. A loop
that hangs sends none, and systemd ends the agent and starts the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

_PINGS_PER_PERIOD: Final = 3  # systemd advises two at least; one may come late


class Supervisor:
    """systemd, or nobody: without $NOTIFY_SOCKET every call does nothing."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes its variables out of `environment`: they are not for the programs that the agent starts."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period_us = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.period_s = int(period_us) / 1e6 if period_us.isdigit() and pid == str(os.getpid()) else 0.0
        """After so long without a ping the agent is taken for dead; 0.0: nobody watches."""

    def ready(self, status: str) -> None:
        self._tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=stopping; what runs in containers goes on")

    async def watch(self) -> None:
        """Pings for ever, from the event loop; returns at once when nobody watches."""
        while self._address and self.period_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.period_s / _PINGS_PER_PERIOD)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # A manager that does not listen must not keep the agent from its work.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.connect(self._address)
            notify.send("\n".join(lines).encode())
