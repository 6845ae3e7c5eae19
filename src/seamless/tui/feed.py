"""The agent's events, as they come, for as long as the program runs: a thread that outlives every agent."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from seamless.errors import SeamlessError

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import EventJSON

_AGAIN_S: Final = 3.0
_NEWEST: Final = 2**62


def on_loop(callback: Callable[[], None]) -> Callable[[], None]:
    """What a thread calls to have `callback` called on the running loop, as if from here: Textual finds its app in the
    context. Once the loop is closed it does nothing."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()

    def wake() -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(callback, context=context)

    return wake


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody answers, and why; trying again."""

    error: SeamlessError


@dataclass(frozen=True, slots=True)
class Standing:
    """The stream stands from now on, first or again: what was fetched before may be old."""


News: TypeAlias = "EventJSON | Lost | Standing"


class Feed:
    """`wake` is called from the thread when there is something to `take`."""

    def __init__(self, socket: Path, wake: Callable[[], None]) -> None:
        self._socket = socket
        self._wake = wake
        self._news: deque[News] = deque()
        self._closed = threading.Event()
        self._client: Client | None = None
        self._after: int | None = None
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._client is not None:
            self._client.close()

    def take(self) -> list[News]:
        """What came since the last call."""
        news = []
        while self._news:
            news.append(self._news.popleft())
        return news

    def _tell(self, news: News) -> None:
        self._news.append(news)
        if not self._closed.is_set():
            self._wake()

    def _read(self) -> None:
        from seamless.client import Client

        while not self._closed.is_set():
            try:
                with Client(self._socket) as client:
                    self._client = client
                    self._follow(client)
            except SeamlessError as error:
                if not self._closed.is_set():
                    self._tell(Lost(error))
                    self._closed.wait(_AGAIN_S)

    def _follow(self, client: Client) -> None:
        if self._after is None:
            newest = client.events(before=_NEWEST, limit=1)
            self._after = newest[0]["id"] if newest else 0
        else:
            client.version()
        self._tell(Standing())

        def tell(error: SeamlessError | None) -> None:
            self._tell(Lost(error) if error else Standing())

        for event in client.stream_events(after=self._after, patience_s=math.inf, on_change=tell):
            self._after = event["id"]
            self._tell(event)
