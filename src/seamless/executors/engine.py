"""The connection to the Docker Engine on this host, and the only place that knows docker-py's errors.

docker-py blocks, so its calls run in a few threads (`call`, `ask`). What may take hours or must end at
once when its task is cancelled (waiting for a container, an interactive stream) would hold a thread
captive, and is a plain HTTP exchange on the event loop instead (`exchange`, `upgrade`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from urllib.parse import urlencode

from docker import APIClient
from docker.errors import APIError, DockerException
from requests.exceptions import Timeout
from urllib3.exceptions import HTTPError

from seamless.errors import ConfigError, EngineUnavailableError, StageError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"

_THREADS: Final = 16
_CALL_TIMEOUT_S: Final = 120
_SILENT_S: Final = 5  # an engine that does not even tell its version for so long is silent
_RETRY_DELAYS_S: Final = (0.1, 0.4, 1.0)


class EngineError(StageError):
    """The engine answered a request with an error. `status` is HTTP's; the message is the engine's own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _SilentEngineError(Exception):
    """Somebody listens at the engine's socket, and does not answer."""


class Engine:
    """One engine. `api` is docker-py's client, whose methods are to be called through `call` or `ask` only."""

    def __init__(self, api: APIClient, path: str, *, id: str, cpus: int, folder: Path) -> None:
        self.api = api
        self.id = id
        self.host = f"unix://{path}"
        self.cpus = cpus
        self.folder = folder  # where it keeps its data
        self._path = path
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")

    @classmethod
    async def connect(cls) -> Engine:
        """The engine that DOCKER_HOST names, else the one at Docker's usual socket.

        Raises ConfigError for one that is not on this host, UnavailableError when there is none. One that takes
        connections and does not answer is about to start, or hangs: that is said at once, and waited for.
        """
        path = socket_path(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
        while True:
            try:
                return await asyncio.to_thread(cls._connect, path)
            except _SilentEngineError:
                _log.warning("the Docker Engine at %s takes connections and does not answer; trying again", path)

    @classmethod
    def _connect(cls, path: str) -> Engine:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
            api = APIClient(f"unix://{path}", version="auto", timeout=_SILENT_S, max_pool_size=_THREADS)
            about = api.info()
            api.timeout = _CALL_TIMEOUT_S
            return cls(api, path, id=str(about["ID"]), cpus=int(about["NCPU"]), folder=Path(about["DockerRootDir"]))
        except PermissionError as error:
            raise UnavailableError(
                f"this user may not open the Docker Engine's socket {path}",
                hint="add the user to the group docker (sudo usermod -aG docker USER) and log in again",
            ) from error
        except (OSError, DockerException) as error:
            if _is_timeout(error):
                raise _SilentEngineError from error
            raise UnavailableError(
                f"no Docker Engine answers at {path}: {_reason(error)}", hint="start it: sudo systemctl start docker"
            ) from error

    async def answers(self) -> bool:
        """Whether it answers now."""
        try:
            async with asyncio.timeout(_SILENT_S):
                return await self.exchange("GET", "/_ping") == HTTPStatus.OK
        except (TimeoutError, EngineUnavailableError):
            return False

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function`, a bound method of `api` or something that uses it, in a thread.

        Raises EngineError for what the engine refuses, and EngineUnavailableError when it does not answer:
        the request may or may not have had its effect then.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))
        except APIError as error:
            raise EngineError(_explanation(error), error.status_code or 500) from error
        except (OSError, HTTPException, HTTPError, DockerException) as error:  # requests' errors are OSErrors
            raise EngineUnavailableError(
                f"the Docker Engine at {self._path} does not answer: {_reason(error)}"
            ) from error

    async def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, for what may be repeated without harm: tries again for a second and a half."""
        return await self.persist(partial(self.call, function, *args, **kwargs))

    async def persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Awaits `attempt` until it does not raise EngineUnavailableError, four times at most."""
        for delay_s in _RETRY_DELAYS_S:
            try:
                return await attempt()
            except EngineUnavailableError:
                await asyncio.sleep(delay_s)
        return await attempt()

    async def exchange(self, method: str, path: str, query: Mapping[str, str] | None = None) -> int:
        """Sends a request without a body and returns the answer's status when all of the answer is here.

        Raises EngineUnavailableError when the engine hangs up before it has answered.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
            try:
                writer.write(_request(method, path, query, "Connection: close"))
                answer = await reader.read()
            finally:
                writer.close()
            return int(answer.split(None, 2)[1])
        except (OSError, IndexError, ValueError) as error:
            raise EngineUnavailableError(f"the Docker Engine at {self._path} hung up") from error

    async def upgrade(self, path: str, query: Mapping[str, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Posts a request that turns the connection into the container's streams; raises as `call`."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
            writer.write(_request("POST", path, query, "Connection: Upgrade\r\nUpgrade: tcp"))
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError) as error:
            raise EngineUnavailableError(f"the Docker Engine at {self._path} hung up") from error
        status = int(head.split(None, 2)[1])
        if status not in (101, 200):
            writer.close()
            raise EngineError(f"POST {path}: status {status}", status)
        return reader, writer

    def close(self) -> None:
        """Ends what can be ended; a call that still runs in a thread ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.api.close()


def socket_path(docker_host: str) -> str:
    """The path in `unix://<path>`; raises ConfigError for every other kind of address."""
    scheme, _, path = docker_host.partition("://")
    if scheme != "unix" or not path.startswith("/"):
        raise ConfigError(
            f"DOCKER_HOST is {docker_host}, but the engine must be on the agent's own host: "
            "stages use folders of this host and network namespaces that the agent keeps ready",
            hint="run the agent on the engine's host, or unset DOCKER_HOST",
        )
    return path


def _request(method: str, path: str, query: Mapping[str, str] | None, headers: str) -> bytes:
    target = f"{path}?{urlencode(query)}" if query else path
    return f"{method} {target} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n{headers}\r\n\r\n".encode()


def _is_timeout(error: BaseException) -> bool:
    """docker-py wraps the library's time-outs in errors of its own."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, Timeout):
        seen = seen.__cause__ or seen.__context__
    return seen is not None


def _explanation(error: APIError) -> str:
    text = error.explanation
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text or error)).strip()


def _reason(error: BaseException) -> str:
    """The innermost system error's words: requests and urllib3 wrap a refused connection several times."""
    reason, cause = str(error), error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return error.strerror if isinstance(error, OSError) and error.strerror else reason
