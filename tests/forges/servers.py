"""Real servers of repositories on loopback: http(s), git and ssh; and some that misbehave."""

from __future__ import annotations

import base64
import contextlib
import getpass
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from harness.git_http import read_body, run_backend


class WebServer(ThreadingHTTPServer):
    """`git http-backend` behind http on an ephemeral port; `seen` keeps each request's path and Authorization."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Backend)
        self.root = root
        self.password: str | None = None  # asked for when set, of the user "bot"
        self.redirect: str | None = None  # where every request is sent instead, before or
        self.redirects_after_login = False  # after the password was asked for
        self.status: int | None = None  # what every request gets instead
        self.meddle: Callable[[str, bytes], bytes] = lambda path, content: content  # with what the backend answers
        self.cut_after: int | None = None  # bytes of an answer to a POST, and the connection is reset
        self.seen: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Backend(BaseHTTPRequestHandler):
    server: WebServer

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization")
        self.server.seen.append((self.path, authorization))
        redirect = None if self.path.startswith("/moved") else self.server.redirect
        if redirect is not None and not self.server.redirects_after_login:
            self._answer(302, {"Location": redirect + self.path})
            return
        if self.server.password is not None:
            expected = base64.b64encode(f"bot:{self.server.password}".encode()).decode()
            if authorization != f"Basic {expected}":
                self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'})
                return
        if redirect is not None:
            self._answer(302, {"Location": redirect + self.path})
        elif self.server.status is not None:
            self._answer(self.server.status, {})
        else:
            self._run_backend()

    def do_POST(self) -> None:
        self.do_GET()

    def _run_backend(self) -> None:
        asked = urlsplit(self.path)
        status, headers, content = run_backend(
            self.server.root, asked.path.removeprefix("/moved"), asked.query, self, read_body(self)
        )
        self._answer(status, headers, self.server.meddle(asked.path, content))

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "POST" and self.server.cut_after is not None:
            self.wfile.write(content[: self.server.cut_after])
            reset = struct.pack("ii", 1, 0)  # linger for no time: closing resets
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def web_server(root: Path) -> Iterator[WebServer]:
    server = WebServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class SilentServer:
    """Takes connections, reads what comes, and answers `greeting` and then nothing, ever."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.connected = threading.Event()
        self.left = threading.Event()  # the other end is gone
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._connections.append(connection)
            connection.recv(65536)
            connection.sendall(self._greeting)
            self.connected.set()
            while connection.recv(65536):
                pass
        self.left.set()

    def close(self) -> None:
        for each in [self._listener, *self._connections]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join()


@contextlib.contextmanager
def silent_server(greeting: bytes = b"") -> Iterator[SilentServer]:
    server = SilentServer(greeting)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def git_daemon(root: Path) -> Iterator[str]:
    """`git daemon` on an ephemeral port; gives its URL."""
    port = free_port()
    command = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr", "--export-all"]
    with _serving([*command, f"--base-path={root}", str(root)], port):
        yield f"git://127.0.0.1:{port}"


class SshServer:
    """An sshd of our own that lets this test's key in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.key = folder / "id"
        for name in ("id", "stranger", "host", "other_host"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(command, check=True)
        shutil.copy(folder / "id.pub", folder / "authorized")

    @property
    def url(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def known_hosts(self, host_key: str) -> Path:
        """A known_hosts file that says this is the server's key."""
        kind, key, _ = (self.folder / f"{host_key}.pub").read_text().split()
        path = self.folder / f"known_{host_key}"
        path.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        return path

    @contextlib.contextmanager
    def serving(self, host_key: str = "host") -> Iterator[None]:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd asks for it; a system's own start-up makes it
        options = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": self.folder / host_key,
            "AuthorizedKeysFile": self.folder / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
        }
        settings = [word for name, value in options.items() for word in ("-o", f'{name}="{value}"')]
        with _serving(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *settings], self.port):
            yield


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
