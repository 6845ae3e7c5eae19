"""What lies between a client and the agent's socket: why nobody answers, errors on the wire, the event stream's format.

Only the standard library, so that a command that does not use HTTP (the shell's WebSocket) shares it.
"""

from __future__ import annotations

import errno
import grp
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seamless.errors import (
    AgentUnreachableError,
    ConfigError,
    ForbiddenError,
    NotFoundError,
    ProgrammingError,
    RefusedError,
    SeamlessError,
    UnavailableError,
    UsageError,
)
from seamless.paths import SYSTEM_SOCKET
from seamless.wire import API_VERSION

_SOCKET_PATH_LIMIT: Final = 107  # bytes that fit into the kernel's sockaddr_un
_ERRORS: Final[dict[str, type[SeamlessError]]] = {
    error.code: error
    for error in (
        ConfigError,
        ForbiddenError,
        NotFoundError,
        ProgrammingError,
        RefusedError,
        UnavailableError,
        UsageError,
    )
}


class ConnectionLostError(AgentUnreachableError):
    """Nobody answers now; an agent that starts again would."""


class ApiVersionError(AgentUnreachableError):
    """Somebody answers, in another version of the API."""

    def __init__(self, spoken: str) -> None:
        older = "agent" if spoken.isdigit() and int(spoken) < API_VERSION else "seamless command"
        super().__init__(
            f"the agent speaks version {spoken} of the API and this command version {API_VERSION}",
            hint=f"Update the {older}"
            + (", then: seamless agent stop; seamless agent start" if older == "agent" else ""),
        )


class AgentError(SeamlessError):
    """An error with a code that this version does not know; the agent says what the command ends with."""

    def __init__(self, message: str, *, hint: str | None, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code  # type: ignore[misc]  # the one class whose exit code is not known beforehand


def check_socket_path(path: Path) -> None:
    """Raise ConfigError for a path that no Unix socket can have."""
    length = len(os.fsencode(path))
    if length > _SOCKET_PATH_LIMIT:
        raise ConfigError(
            f"the socket's path has {length} bytes, and the system allows {_SOCKET_PATH_LIMIT}: {path}",
            hint="Set agent.socket to a shorter one",
        )


def error_of(status: int, body: bytes) -> SeamlessError:
    """The error that an answer which is not 2xx stands for."""
    return said_error(body) or ProgrammingError(
        f"the agent answered {status} without saying why", hint="Its log may: agent.log in the data directory"
    )


def said_error(body: bytes) -> SeamlessError | None:
    """The error that a body of the documented shape describes."""
    try:
        said: dict[str, Any] = json.loads(body)["error"]
        code, message, hint, exit_code = said["code"], str(said["message"]), said["hint"], int(said["exit_code"])
    except (ValueError, TypeError, KeyError):
        return None
    if known := _ERRORS.get(code):
        return known(message, hint=hint)
    return AgentError(message, hint=hint, exit_code=exit_code)


def unreachable(socket: Path, error: BaseException) -> AgentUnreachableError:
    """Why there is no connection to `socket`, from the error that a library made of it."""
    number = _errno_of(error)
    if _is_something_else(socket):
        return AgentUnreachableError(f"{socket} is not a socket", hint="Name the agent's: seamless --socket PATH")
    if number in (errno.EACCES, errno.EPERM):
        return _closed_to_this_user(socket)
    if number in (errno.ENOENT, errno.ENOTDIR):
        return ConnectionLostError(f"no agent answers at {socket}", hint=_start_hint(socket))
    if number == errno.ECONNREFUSED:
        return ConnectionLostError(
            f"no agent answers at {socket}; the one that made it has ended", hint=_start_hint(socket)
        )
    return ConnectionLostError(
        f"the agent at {socket} broke off the connection", hint="Whether it still runs: seamless agent status"
    )


def _is_something_else(path: Path) -> bool:
    try:
        return path.exists() and not path.is_socket()
    except OSError:  # in a folder that is closed to this user
        return False


def _start_hint(socket: Path) -> str:
    if socket == SYSTEM_SOCKET:
        return "Start it: sudo seamless agent start; on a new host: sudo seamless agent install"
    return "Start one: seamless agent start"


def _closed_to_this_user(socket: Path) -> AgentUnreachableError:
    """The socket or its directory is another group's; say which."""
    for path in (*reversed(socket.parents), socket):
        try:
            group = _group_of(path)
        except OSError:
            break
        needed = os.R_OK | os.W_OK if path == socket else os.X_OK
        if os.access(path, needed):
            continue
        if group == 0:
            hint = "Ask root for access to the agent, or start one of your own"
            return AgentUnreachableError(f"{path} is open to root only", hint=hint)
        name = _name_of(group)
        return AgentUnreachableError(
            f"{path} is open to the group {name} only, and you are not in it",
            hint=f"Have yourself added, then log in again: sudo usermod -aG {name} $USER",
        )
    return AgentUnreachableError(f"you may not open {socket}", hint="Ask for access to that socket's directory")


def _group_of(path: Path) -> int:
    return path.stat().st_gid


def _name_of(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _errno_of(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


class Patience:
    """Back-off between attempts, until nobody has answered for `limit_s`.

    `on_change` is called with the error when the agent is lost, and with None when it is back.
    """

    _FIRST_S: Final = 0.1
    _LONGEST_S: Final = 3.0

    def __init__(self, limit_s: float, on_change: Callable[[SeamlessError | None], None] | None = None) -> None:
        self._limit_s = limit_s
        self._on_change = on_change
        self._delay_s = self._FIRST_S
        self._lost_at: float | None = None

    def renew(self) -> None:
        """Somebody answered."""
        self._delay_s = self._FIRST_S
        if self._lost_at is not None:
            self._lost_at = None
            if self._on_change:
                self._on_change(None)

    def wait(self, error: SeamlessError) -> None:
        """Sleep before the next attempt; raises `error` when patience has run out."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            if self._on_change:
                self._on_change(error)
        if now - self._lost_at >= self._limit_s:
            raise error
        time.sleep(self._delay_s * random.uniform(0.8, 1.2))
        self._delay_s = min(2 * self._delay_s, self._LONGEST_S)


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    id: int | None
    data: str


class ServerSentEvents:
    """Parses `text/event-stream` as its bytes arrive, cut anywhere. Comments and unknown fields are passed over.

    Own code, since the line splitting of HTTP libraries also cuts at U+2028 and the like, inside a JSON string.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._id: int | None = None
        self._data: list[str] = []
        self._any = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r").decode())) is not None]

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            event = ServerSentEvent(self._id, "\n".join(self._data)) if self._any else None
            self._data, self._any = [], False
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and value.isdecimal():
            self._id, self._any = int(value), True
        elif name == "data":
            self._data.append(value)
            self._any = True
        return None
