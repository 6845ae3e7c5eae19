"""The listener's life: its address is taken when the agent starts, and given back when it stops."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn

from seamless.agent.serving import QuietServer
from seamless.agent.webhooks.listener import WebhookApp
from seamless.config import Address
from seamless.errors import ConfigError

_CONNECTIONS_MAX: Final = 500  # more are answered 503
_BACKLOG: Final = 1024
_log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(app: WebhookApp, address: Address) -> AsyncIterator[int]:
    """Serves while inside; gives the port. Raises ConfigError when the address cannot be had."""
    with _listening(address) as listener:
        server = QuietServer(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=5,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[listener]), name="webhooks")
        port: int = listener.getsockname()[1]
        _log.info("webhooks are taken at %s port %d", address.host, port)
        try:
            yield port
        finally:
            server.stop()
            await task


def _listening(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"agent.webhooks.listen: {address.host} is no address of this host: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        why = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"agent.webhooks.listen: {address} cannot be listened at: {why}", hint="is another program there?"
        ) from error
    listener.setblocking(False)
    return listener
