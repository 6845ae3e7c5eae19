"""How the client's methods reach the agent: requests and streams over its socket, and what goes wrong with them."""

from __future__ import annotations

import socket as socket_module
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from seamless.connection import (
    ApiVersionError,
    ConnectionLostError,
    check_socket_path,
    error_of,
    said_error,
    unreachable,
)
from seamless.errors import AgentUnreachableError
from seamless.wire import API_VERSION, CONFIG_HEADER

API_HEADER: Final = "Seamless-API"
_TIMEOUT_S: Final = 30.0


class Transport:
    """One agent's socket. Opening it does no I/O; close it, or use it as a context manager.

    `on_old_config` is called with the first answer that says that the agent's configuration file holds what is not
    in force.
    """

    def __init__(
        self, socket: Path, *, timeout_s: float = _TIMEOUT_S, on_old_config: Callable[[], None] | None = None
    ) -> None:
        check_socket_path(socket)
        self.socket = socket
        self._on_old_config = on_old_config
        self._streams: set[socket_module.socket] = set()  # of the answers that are being read
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket), verify=False),  # no TLS on a Unix socket: load no CAs
            base_url="http://agent/v1/",
            headers={API_HEADER: str(API_VERSION), "Accept-Encoding": "identity"},
            timeout=timeout_s,
            trust_env=False,
        )

    def close(self) -> None:
        """Also ends the streams that other threads are reading: they raise AgentUnreachableError."""
        for stream in tuple(self._streams):
            with suppress(OSError):
                stream.shutdown(socket_module.SHUT_RDWR)  # closing alone would leave their readers waiting
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._send("GET", path, params=_given(params)).json()

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self._send("POST", path, json=_given(body))
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self._translated():
            answer = self._http.request(method, path, **request)
        self._check(answer)
        return answer

    @contextmanager
    def _stream(
        self,
        path: str,
        params: Mapping[str, Any],
        *,
        timeout_s: float | None = _TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(_TIMEOUT_S, read=timeout_s)
        with (
            self._translated(),
            self._http.stream("GET", path, params=_given(params), headers=headers, timeout=timeout) as answer,
        ):
            if not answer.is_success:
                answer.read()
            self._check(answer)
            stream = answer.extensions["network_stream"].get_extra_info("socket")
            self._streams.add(stream)
            try:
                yield answer
            finally:
                self._streams.discard(stream)

    def _check(self, answer: httpx.Response) -> None:
        spoken = answer.headers.get(API_HEADER)
        if spoken is None and (failure := said_error(answer.content if answer.is_error else b"")):
            raise failure  # an error so deep in the agent that its answer bears no version
        if spoken is None:
            raise AgentUnreachableError(
                f"what answers at {self.socket} is not a Seamless agent",
                hint="Name the agent's socket: seamless --socket PATH",
            )
        if spoken != str(API_VERSION):
            raise ApiVersionError(spoken)
        if self._on_old_config is not None and CONFIG_HEADER in answer.headers:
            tell, self._on_old_config = self._on_old_config, None
            tell()
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the library's errors into ours; those of a client that another thread has closed are final."""
        try:
            yield
        except (httpx.TransportError, RuntimeError) as error:
            if self._http.is_closed:
                raise AgentUnreachableError("the connection was closed by this program") from error
            if isinstance(error, RuntimeError):
                raise
            if isinstance(error, httpx.TimeoutException):
                raise ConnectionLostError(
                    f"the agent at {self.socket} does not answer in time",
                    hint="What it is doing: seamless agent status",
                ) from error
            raise unreachable(self.socket, error) from error


def _given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without those that are None."""
    return {name: value for name, value in (values or {}).items() if value is not None}
