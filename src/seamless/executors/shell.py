"""A person's interactive shell in a container: a terminal's bytes, both ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from seamless.executors.engine import Engine, EngineError

_PIECE = 65536


class DockerShell:
    """Implements `seamless.executors.Shell` over the engine's attach stream, which a terminal makes plain bytes."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        remove: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._name = name
        self._reader = reader
        self._writer = writer
        self._remove = remove

    async def read(self) -> bytes:
        try:
            return await self._reader.read(_PIECE)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the shell has ended, which `read` tells
            self._writer.write(data)
            await self._writer.drain()

    async def resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(EngineError):  # not running (any more): there is nothing to resize
            await self._engine.call(self._engine.api.resize, self._name, height=rows, width=columns)

    async def close(self) -> None:
        self._writer.close()
        await self._remove()
