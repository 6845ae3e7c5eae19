"""Network namespaces that are kept ready, because making one is the dear part of starting a container.

Each is held by a container that only sleeps, on the engine's default bridge, with no way to the
instance metadata address. A stage joins it by `container:<id>`, which the engine shows when the
stage's container is inspected: that is how an agent that was started again knows which is whose.
Each is used once: a file per namespace tells that nobody has used it yet, so that the agent that comes
after a killed one takes over what is still running.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import secrets
from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from pathlib import Path
from typing import Final

from seamless.errors import SeamlessError, StageError
from seamless.executors.container_config import NAMESPACE_READY, namespace_body
from seamless.executors.engine import Engine, EngineError

_log = logging.getLogger(__name__)

_READY_WITHIN_S: Final = 30.0
_AT_ONCE: Final = 2  # more only slow each other and the stages down
_DISCARD_AGAIN_S: Final = 1.0  # the engine is away
# Since one was taken last: what took it starts now, and needs the processors.
_REFILL_AFTER_S: Final = 1.0
_REFILL_LATER_S: Final = 5.0  # when another run of checks would still find its two


class NetworkPool:
    """Keeps `size` namespaces ready after the first `refill`. Used on one event loop."""

    def __init__(
        self, engine: Engine, *, image: str, prefix: str, labels: Mapping[str, str], size: int, unused: Path
    ) -> None:
        """`unused` is the folder of the files that tell which namespaces nobody has used."""
        self._engine = engine
        self._prefix = prefix
        self._body = namespace_body(image, labels=labels)
        self._recipe = hashlib.sha256(json.dumps(self._body, sort_keys=True).encode()).hexdigest()
        self._unused = unused
        self._size = size
        self._ready: deque[str] = deque()
        self._waiting: deque[asyncio.Future[str]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._making = 0
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._refilling: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def ready(self) -> int:
        """How many are ready now."""
        return len(self._ready)

    async def take(self) -> str:
        """The id of a container whose namespace nobody has used; waits for one to be made when none is ready.

        Raises StageError when it cannot be made, UnavailableError when the engine does not answer.
        """
        if self._ready:
            namespace = self._ready.popleft()
            (self._unused / namespace).unlink(missing_ok=True)
            self._refill_later()
            return namespace
        mine: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self.refill()
        try:
            return await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self.give_back(mine.result())
            raise

    def give_back(self, namespace: str) -> None:
        """Returns one that no container has joined."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(namespace)
                return
        with contextlib.suppress(OSError):  # a full disk: then this one is not taken over
            self._unused.mkdir(exist_ok=True)
            (self._unused / namespace).write_text(self._recipe, encoding="ascii")
        self._ready.append(namespace)

    def adopt(self, running: Collection[str]) -> set[str]:
        """Takes over what an earlier agent had ready of `running`, up to the size; returns those taken."""
        marks = list(self._unused.iterdir()) if self._unused.exists() else []
        for mark in marks:
            wanted = mark.name in running and len(self._ready) < self._size
            if wanted and mark.read_text(encoding="ascii") == self._recipe:
                self._ready.append(mark.name)
            else:
                mark.unlink()
        return set(self._ready)

    def refill(self) -> None:
        """Starts to make what is missing, in the background."""
        wanted = self._size + sum(not waiting.done() for waiting in self._waiting)
        for _ in range(wanted - len(self._ready) - self._making):
            self._making += 1
            self._start(self._add())

    def renew(self) -> None:
        """Gives up all that are ready: the engine was restarted, and they are dead."""
        dead = list(self._ready)
        self._ready.clear()
        for namespace in dead:
            self._start(self._discard(namespace))
        self.refill()

    async def remove(self, namespace: str) -> None:
        """Removes one that was used; does nothing when it is gone."""
        try:
            await self._engine.ask(self._engine.api.remove_container, namespace, force=True, v=True)
        except EngineError as error:
            if error.status not in (404, 409):  # 409: it is being removed already
                raise

    async def close(self) -> None:
        """Removes those that nobody used, also the ones that are being made now."""
        self._closed = True
        if self._refilling is not None:
            self._refilling.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        while self._ready:
            await self._discard(self._ready.popleft())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refill_later(self) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
        delay_s = _REFILL_LATER_S if 2 * len(self._ready) >= self._size else _REFILL_AFTER_S
        self._refilling = asyncio.get_running_loop().call_later(delay_s, self.refill)

    async def _add(self) -> None:
        try:
            async with self._slots:
                namespace = await self._make()
        except SeamlessError as error:
            self._fail(error)
        else:
            self.give_back(namespace)
        finally:
            self._making -= 1

    def _fail(self, error: SeamlessError) -> None:
        """Tells all who wait; without any the next `take` tries again."""
        if not self._waiting:
            _log.warning("no network namespace could be made ahead: %s", error.message)
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(error)

    async def _make(self) -> str:
        api = self._engine.api
        name = f"{self._prefix}network-{secrets.token_hex(4)}"
        created = await self._engine.call(api.create_container_from_config, self._body, name)
        namespace = str(created["Id"])
        try:
            await self._until_ready(namespace)
        except SeamlessError:
            self._start(self._discard(namespace))
            raise
        return namespace

    async def _until_ready(self, namespace: str) -> None:
        reader, writer = await self._engine.upgrade(
            f"/containers/{namespace}/attach", {"stream": "1", "stdout": "1", "stderr": "1"}
        )
        said = b""
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._engine.call(self._engine.api.start, namespace)
                while NAMESPACE_READY not in said:
                    piece = await reader.read(4096)
                    if not piece:
                        raise StageError(f"the engine made no usable network namespace: {_text(said)}")
                    said += piece
        except TimeoutError:
            raise StageError(f"a network namespace was not ready within {_READY_WITHIN_S:.0f} s") from None
        finally:
            writer.close()

    async def _discard(self, namespace: str) -> None:
        (self._unused / namespace).unlink(missing_ok=True)
        while True:
            try:
                await self.remove(namespace)
                return
            except SeamlessError as error:
                if self._closed:
                    _log.warning("an unused network namespace could not be removed: %s", error.message)
                    return
            await asyncio.sleep(_DISCARD_AGAIN_S)


class Joined:
    """Which container has joined which namespace, even when the container is gone: its namespace goes with the last."""

    def __init__(self, pool: NetworkPool) -> None:
        self._pool = pool
        self._namespaces: dict[str, str] = {}

    def note(self, container: str, namespace: str) -> None:
        """As the engine shows it."""
        self._namespaces[container] = namespace

    def of(self, container: str) -> str | None:
        """None: it has none, or nothing is known of it."""
        return self._namespaces.get(container)

    async def leave(self, container: str) -> None:
        """Removes the namespace unless another container has joined it too; raises as `NetworkPool.remove`, and may be
        repeated then."""
        namespace = self._namespaces.pop(container, None)
        if namespace is None or namespace in self._namespaces.values():
            return
        try:
            await self._pool.remove(namespace)
        except SeamlessError:
            self._namespaces[container] = namespace
            raise


def _text(stream: bytes) -> str:
    """The words in an attached stream, whose pieces begin with eight bytes of header."""
    return re.sub(rb"[\x00-\x02]\0{3}.{4}", b"", stream, flags=re.DOTALL).decode(errors="replace").strip()
