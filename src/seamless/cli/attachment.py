"""This terminal, connected to a shell in a container on the agent's host."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Final
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from seamless.cli.session import Session
from seamless.connection import check_socket_path, error_of, unreachable
from seamless.errors import NotFoundError, SeamlessError, UnavailableError
from seamless.wire import API_VERSION

_END_OF_INPUT: Final = b"\x04"  # what a terminal sends for the end of its input
_CHUNK: Final = 64 * 1024
_OPEN_S: Final = 60.0  # the container is created before the agent answers


def attach(session: Session, run: str, stage: str | None) -> int:
    """Connect standard input and output to a new shell; returns its exit code."""
    with _connected(session, run, stage) as connection, _raw_input() as is_terminal:
        leaving, wake = os.pipe()
        with _resizes(wake) if is_terminal else nullcontext():
            sender = threading.Thread(target=_send_input, args=(connection, leaving, is_terminal), daemon=True)
            sender.start()
            _copy_output(connection)
        return _exit_code(connection)


@contextmanager
def _connected(session: Session, run: str, stage: str | None) -> Iterator[ClientConnection]:
    if "/" in run:
        raise NotFoundError(f"{run!r} is not the name of a run")
    asked: dict[str, str | int] = {"stage": stage} if stage else {}
    if sys.stdin.isatty():
        asked["columns"], asked["rows"] = os.get_terminal_size(sys.stdin.fileno())
    path = session.socket_path
    check_socket_path(path)
    try:
        connection = unix_connect(
            str(path),
            f"ws://agent/v1/runs/{run}/shell?{urlencode(asked)}",
            additional_headers={"Seamless-API": str(API_VERSION)},
            compression=None,
            max_size=None,
            open_timeout=_OPEN_S,
        )
        with connection as websocket:
            yield websocket
    except InvalidStatus as refused:
        raise error_of(refused.response.status_code, bytes(refused.response.body or b"")) from None
    except (InvalidHandshake, OSError) as error:
        raise unreachable(path, error) from error


def _copy_output(connection: ClientConnection) -> None:
    output = sys.stdout.buffer
    with suppress(ConnectionClosed):
        while True:
            frame = connection.recv()
            output.write(frame if isinstance(frame, bytes) else frame.encode())
            output.flush()


def _exit_code(connection: ClientConnection) -> int:
    """The shell's, which the agent gives as the reason for closing."""
    reason = connection.close_reason or ""
    if reason.isdecimal():
        return int(reason)
    if not reason:
        raise UnavailableError("the agent broke off the shell", hint="Whether it still runs: seamless agent status")
    raise SeamlessError(reason)


def _send_input(connection: ClientConnection, resized: int, is_terminal: bool) -> None:
    """Standard input to the shell until either ends; for each byte in the pipe `resized`, the terminal's new size.

    Both from this one thread: a signal handler that sends could meet the main thread inside the connection's locks.
    """
    source = sys.stdin.fileno()
    last = b"\n"
    with suppress(ConnectionClosed), selectors.DefaultSelector() as selector:
        selector.register(resized, selectors.EVENT_READ)
        with suppress(PermissionError):  # a regular file cannot be waited for: it is always ready
            selector.register(source, selectors.EVENT_READ)
        while True:
            always = [] if source in selector.get_map() else [source]
            ready = [key.fd for key, _ in selector.select(0 if always else None)] + always
            if resized in ready:
                os.read(resized, 512)
                columns, rows = os.get_terminal_size(source)
                connection.send(json.dumps({"rows": rows, "columns": columns}))
            if source in ready:
                if not (typed := os.read(source, _CHUNK)):
                    break
                last = typed
                connection.send(typed)
        if not is_terminal:  # after an unfinished line the first one only hands that line over
            connection.send(_END_OF_INPUT if last.endswith(b"\n") else 2 * _END_OF_INPUT)


@contextmanager
def _raw_input() -> Iterator[bool]:
    """Hand every key to the shell, Ctrl-C too; yields whether standard input is a terminal at all."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def _resizes(wake: int) -> Iterator[None]:
    """While it lasts, a byte is written to `wake` whenever the terminal changes its size."""

    def tell(_number: int, _frame: FrameType | None) -> None:
        os.write(wake, b"\0")

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
