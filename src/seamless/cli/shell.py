"""`seamless shell`: this terminal, connected to a new container over a stage's workspace."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

import typer

from seamless.cli.session import Session, session_of
from seamless.errors import NotFoundError, SeamlessError, UnavailableError

if TYPE_CHECKING:
    from types import FrameType

    from websockets.sync.client import ClientConnection

app = typer.Typer()
_END_OF_INPUT: Final = b"\x04"  # what a terminal sends for the end of its input
_CHUNK: Final = 64 * 1024


@app.command()
def shell(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, or a service for its latest run.")],
    stage: Annotated[
        str | None, typer.Argument(metavar="[STAGE]", help="Default: the stage that failed.", show_default=False)
    ] = None,
) -> None:
    """Open a shell where a stage failed.

    It is a new container from the stage's image, with its limits, on a view of its own over the stage's
    workspace: nothing that is written there reaches a rerun. Ends with the shell's own exit code.

    \b
    Examples:
      seamless shell payment-43
      seamless shell payment-43 unit_test
      echo 'npm ls' | seamless shell payment-43
    """
    raise typer.Exit(_attach(session_of(context), run, stage))


def _attach(session: Session, run: str, stage: str | None) -> int:
    with _connected(session, run, stage) as connection, _raw_input() as is_terminal:
        leaving, wake = os.pipe()
        with _resizes(wake) if is_terminal else nullcontext():
            sender = threading.Thread(target=_send_input, args=(connection, leaving, is_terminal), daemon=True)
            sender.start()
            _copy_output(connection)
        return _exit_code(connection)


@contextmanager
def _connected(session: Session, run: str, stage: str | None) -> Iterator[ClientConnection]:
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.sync.client import unix_connect

    from seamless.connection import check_socket_path, error_of, unreachable
    from seamless.wire import API_VERSION

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
            open_timeout=60,  # the container is created before the agent answers
        )
        with connection as websocket:
            yield websocket
    except InvalidStatus as refused:
        raise error_of(refused.response.status_code, bytes(refused.response.body or b"")) from None
    except (InvalidHandshake, OSError) as error:
        raise unreachable(path, error) from error


def _copy_output(connection: ClientConnection) -> None:
    from websockets.exceptions import ConnectionClosed

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
    from websockets.exceptions import ConnectionClosed

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
    import termios
    import tty

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
