"""Who is at the other end of the Unix socket: uvicorn's protocols, with the peer's credential as `client`.

uvicorn leaves `scope["client"]` empty for Unix sockets; here it is ("uid:<uid>", pid) from SO_PEERCRED
(unix(7)).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

from starlette.requests import HTTPConnection
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from seamless.agent.access import actor_of
from seamless.agent.origins import origin_of
from seamless.errors import ForbiddenError
from seamless.model import Actor

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid


def _credential(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return f"uid:{uid}", pid


class PeerHTTPProtocol(H11Protocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.client = _credential(transport)


class PeerWebSocketProtocol(WebSocketsSansIOProtocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.client = _credential(transport)


def peer(connection: HTTPConnection) -> Actor:
    """The user who asks, and from where. Raises ForbiddenError when the socket does not tell. For a thread: looks into
    /proc."""
    if connection.client is None or not connection.client.host.startswith("uid:"):
        raise ForbiddenError("this connection does not tell whose it is")
    return actor_of(int(connection.client.host.removeprefix("uid:")), origin_of(connection.client.port))
