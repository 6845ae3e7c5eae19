"""`seamless shell` against a WebSocket server that plays the agent's part."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, unix_serve

pytestmark = pytest.mark.fake

Talk = Callable[[ServerConnection], None]


@contextmanager
def serving(talk: Talk, refusal: Response | None = None) -> Iterator[tuple[list[str], list[Request]]]:
    """A server, the command line for it, and the requests that it gets."""
    requests: list[Request] = []

    def process(_: ServerConnection, request: Request) -> Response | None:
        requests.append(request)
        return refusal

    with tempfile.TemporaryDirectory(prefix="s") as folder:
        path = str(Path(folder, "a.sock"))
        with unix_serve(talk, path, process_request=process) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield [sys.executable, "-m", "seamless", "--socket", path, "shell"], requests
            server.shutdown()
            thread.join()


def test_piped_input_runs_to_its_end_and_the_exit_code_is_passed_on(home: Path) -> None:
    received: list[bytes | str] = []

    def talk(connection: ServerConnection) -> None:
        for frame in connection:
            received.append(frame)
            if b"\x04" in frame:
                break
        connection.send(b"out\x1b[0m\r\n")
        connection.close(reason="7")

    with serving(talk) as (command, requests):
        done = subprocess.run(
            [*command, "payment-43", "unit_test"], input=b"ls\nexit 7", capture_output=True, timeout=60
        )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\x1b[0m\r\n", b"")
    assert b"".join(frame for frame in received if isinstance(frame, bytes)) == b"ls\nexit 7\x04\x04"
    assert requests[0].path == "/v1/runs/payment-43/shell?stage=unit_test"
    assert requests[0].headers["Seamless-API"] == "1"


def test_a_file_as_input(home: Path) -> None:
    def talk(connection: ServerConnection) -> None:
        assert connection.recv() == b"ls\n"
        assert connection.recv() == b"\x04"
        connection.close(reason="0")

    (home / "script").write_text("ls\n")
    with serving(talk) as (command, _), (home / "script").open() as script:
        done = subprocess.run([*command, "payment-43"], stdin=script, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_is_raw_sends_its_size_and_is_left_as_it_was(home: Path) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    before = termios.tcgetattr(slave)
    received: list[bytes | str] = []

    def talk(connection: ServerConnection) -> None:
        for frame in connection:
            received.append(frame)
            if frame == b"\x03":
                connection.send(b"$ ")
            if isinstance(frame, str):
                connection.close(reason="0")

    with serving(talk) as (command, requests):
        process = subprocess.Popen(
            [*command, "payment"], stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal
        )
        while termios.tcgetattr(slave)[3] & termios.ICANON:
            time.sleep(0.02)
        os.write(master, b"\x03")
        assert os.read(master, 10) == b"$ "
        termios.tcsetwinsize(master, (50, 132))
        assert process.wait(30) == 0
    assert requests[0].path == "/v1/runs/payment/shell?columns=80&rows=24"
    assert received[0] == b"\x03"
    assert json.loads(received[1]) == {"rows": 50, "columns": 132}
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def own_terminal() -> None:
    """Make standard input the controlling terminal, so that its changes of size are signalled."""
    import fcntl

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_refusals(home: Path) -> None:
    body = json.dumps({"error": {"code": "forbidden", "message": "only admins", "hint": None, "exit_code": 5}}).encode()
    refusal = Response(403, "Forbidden", Headers({"Content-Length": str(len(body))}), body)
    with serving(lambda _: None, refusal) as (command, _):
        done = subprocess.run([*command, "payment"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (5, "seamless: only admins\n")

    with serving(lambda connection: connection.close(4000, "the image is gone")) as (command, _):
        done = subprocess.run([*command, "payment"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (1, "seamless: the image is gone\n")

    command = [sys.executable, "-m", "seamless", "--socket", str(home / "none"), "shell", "payment"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == f"seamless: no agent answers at {home}/none. Start one: seamless agent start\n"
