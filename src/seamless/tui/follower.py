"""Tells how a log grows, while its stage goes on: a thread that counts what comes and keeps none of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from seamless.errors import SeamlessError

if TYPE_CHECKING:
    from seamless.client import Client


class Follower:
    """From `size` on. `wake` is called from the thread, once until the next `take`."""

    def __init__(self, socket: Path, run: str, stage: str, size: int, wake: Callable[[], None]) -> None:
        self._socket = socket
        self._where = run, stage
        self._wake = wake
        self._lock = threading.Lock()
        self._size = size
        self._lines = 0
        self._told = False
        self._closed = False
        self._client: Client | None = None
        threading.Thread(target=self._read, name=f"log of {stage}", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client = self._client
        if client is not None:
            client.close()

    def take(self) -> tuple[int, int]:
        """The log's size, and the lines that came since the last call."""
        with self._lock:
            size, lines = self._size, self._lines
            self._lines, self._told = 0, False
            return size, lines

    def _read(self) -> None:
        from seamless.client import Client

        with Client(self._socket) as client:
            with self._lock:
                self._client = client
                if self._closed:
                    return
            run, stage = self._where
            try:
                for chunk in client.follow_log(run, stage, offset=self._size, patience_s=math.inf):
                    with self._lock:
                        self._size += len(chunk)
                        self._lines += chunk.count(b"\n")
                        wake, self._told = not self._told and not self._closed, True
                    if wake:
                        self._wake()
            except SeamlessError:
                return  # closed, or the run is gone: what was shown stays
