"""Images that containers start from: used when they are here, pulled when they are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from docker.auth import resolve_repository_name
from docker.errors import InvalidRepository

from seamless.errors import EngineUnavailableError
from seamless.executors import ImageMissingError
from seamless.executors.engine import Engine, EngineError

Credentials = Callable[[str], tuple[str, str] | None]

_RETRY_DELAYS_S: Final = (0.5, 1.5)
# What a registry or the engine says when asking again would not help.
_FINAL: Final = (
    "not found",
    "manifest unknown",
    "name unknown",
    "denied",
    "unauthorized",
    "authentication required",
    "no basic auth",
    "invalid reference",
    "no matching manifest",
    "unsupported",
)


class Images:
    """Pulls each missing image once, however many ask for it. `credentials` of a registry's host, if it has any."""

    def __init__(self, engine: Engine, credentials: Credentials) -> None:
        self._engine = engine
        self._credentials = credentials
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._closing = threading.Event()

    async def ensure(self, image: str) -> str:
        """Pulls `image` unless it is here; returns its id. An image named by its bare id is never pulled.

        Raises ImageMissingError.
        """
        found = await self._id(image)
        if found is not None:
            return found
        if image.startswith("sha256:"):
            raise ImageMissingError(f"the image {image} is not on this engine any more", hint="run its build again")
        await self._shared_pull(image)
        found = await self._id(image)
        if found is None:
            raise ImageMissingError(f"the image {image} was removed as soon as it was pulled")
        return found

    async def close(self) -> None:
        """Stops pulls; the engine keeps what it has of them."""
        self._closing.set()
        for pull in list(self._pulls.values()):
            pull.cancel()
        await asyncio.gather(*self._pulls.values(), return_exceptions=True)

    async def _id(self, image: str) -> str | None:
        try:
            return str((await self._engine.ask(self._engine.api.inspect_image, image))["Id"])
        except EngineError as error:
            if error.status == 404:
                return None
            raise ImageMissingError(f"the image {image} cannot be had: {error.message}") from error

    async def _shared_pull(self, image: str) -> None:
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = asyncio.create_task(self._pull(image))
            pull.add_done_callback(lambda _: self._pulls.pop(image))
        await asyncio.shield(pull)  # the others still want it when the one who asked first is cancelled

    async def _pull(self, image: str) -> None:
        for delay_s in (*_RETRY_DELAYS_S, None):
            try:
                await self._engine.call(self._pull_in_thread, image)
                return
            except EngineUnavailableError:
                if delay_s is None:
                    raise
                await asyncio.sleep(delay_s)
            except EngineError as error:
                if delay_s is None or is_final(error.message):
                    raise ImageMissingError(f"the image {image} cannot be had: {error.message}") from error
                await asyncio.sleep(delay_s)

    def _pull_in_thread(self, image: str) -> None:
        for progress in self._engine.api.pull(image, stream=True, decode=True, auth_config=self._login(image)):
            if self._closing.is_set():
                return
            if "error" in progress:  # the answer's status was 200 long before
                raise EngineError(progress["error"], 500)

    def _login(self, image: str) -> dict[str, Any] | None:
        """None lets docker-py look into the user's own ~/.docker/config.json."""
        try:
            registry, _ = resolve_repository_name(image)
        except InvalidRepository as error:
            raise EngineError(f"invalid reference: {error}", 400) from error
        login = self._credentials(registry)
        return {"username": login[0], "password": login[1]} if login else None


def is_final(message: str) -> bool:
    """Whether the same pull would fail again: the image does not exist, or may not be had."""
    lowered = message.lower()
    return any(words in lowered for words in _FINAL)
