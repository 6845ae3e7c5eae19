"""The agent of another host, by OpenSSH's forwarding of its socket: `--host ssh://build-host` or $SEAMLESS_HOST.

Nothing is opened on that host but what sshd lets its users do anyway, and the agent sees who they are there.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from seamless.connection import ConnectionLostError
from seamless.errors import AgentUnreachableError, UsageError
from seamless.paths import SYSTEM_SOCKET

DEFAULT_SOCKET: Final = str(SYSTEM_SOCKET)  # of an installed service
_CONNECT_S: Final = 60.0  # a person may have to type a passphrase
_ANSWER_S: Final = 20.0
_POLL_S: Final = 0.02
_END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Remote:
    """A host as its URL names it: ssh://[user@]host[:port][/path/of/the/agent.sock]."""

    address: str  # [user@]host
    port: int | None
    socket: str


def remote_of(url: str) -> Remote:
    """Raises UsageError for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{url} is not a well-formed URL", hint="such as ssh://build-host") from None
    wrong = parts.scheme != "ssh" or not parts.hostname or parts.password or parts.query or parts.fragment
    if wrong or parts.netloc.startswith("-") or (parts.hostname or "-").startswith("-") or not url.isprintable():
        raise UsageError(f"{url} is not a host's URL", hint="such as ssh://build-host or ssh://dana@build-host:2222")
    path = parts.path if parts.path not in ("", "/") else DEFAULT_SOCKET
    host = parts.hostname or ""
    return Remote(f"{parts.username}@{host}" if parts.username else host, port, path)


def forward(remote: Remote) -> Path:
    """A socket here that leads to the agent there, until this program ends.

    Raises AgentUnreachableError with ssh's own words, or when nobody answers at the other end.
    """
    if shutil.which("ssh") is None:
        raise AgentUnreachableError("there is no program ssh on this machine", hint="Install OpenSSH's client")
    folder = Path(tempfile.mkdtemp(prefix="seamless-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    here, said = folder / "agent.sock", folder / "ssh.log"
    with said.open("wb") as log:
        process = _quietly(lambda: subprocess.Popen(_command(remote, here), stdin=subprocess.DEVNULL, stderr=log))
    atexit.register(_end, process)
    deadline = time.monotonic() + _CONNECT_S
    while not here.exists():
        if process.poll() is not None:
            raise AgentUnreachableError(f"ssh to {remote.address}: {_last_line(said)}", hint=_hint(remote))
        if time.monotonic() > deadline:
            raise AgentUnreachableError(f"ssh to {remote.address} is not connected after {_CONNECT_S:.0f} s")
        time.sleep(_POLL_S)
    _check_answers(remote, here)
    return here


def _command(remote: Remote, here: Path) -> list[str]:
    options = ["ExitOnForwardFailure=yes", "StreamLocalBindMask=0177", "ConnectTimeout=20", "ServerAliveInterval=15"]
    options += ["ControlPath=none", "ForwardAgent=no", "PermitLocalCommand=no"]
    options += [] if sys.stdin.isatty() else ["BatchMode=yes"]
    port = ["-p", str(remote.port)] if remote.port else []
    settings = [word for option in options for word in ("-o", option)]
    return ["ssh", "-N", "-T", *settings, *port, "-L", f"{here}:{remote.socket}", "--", remote.address]


def _quietly(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Starts a program that Ctrl-C does not reach: the command may still have something to say to the agent."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return start()
    finally:
        signal.signal(signal.SIGINT, before)


def _check_answers(remote: Remote, here: Path) -> None:
    """ssh takes connections before it knows whether anybody listens at the other end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(str(here))
            probe.sendall(b"GET /v1/version HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
            answered = probe.recv(1)
        except OSError:
            answered = b""
    if not answered:
        raise ConnectionLostError(
            f"no agent answers at {remote.socket} on {remote.address}, or you may not open it there",
            hint=f"ssh {remote.address} seamless agent status tells which",
        )


def _last_line(file: Path) -> str:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"


def _hint(remote: Remote) -> str:
    port = f"-p {remote.port} " if remote.port else ""
    return f"Whether you get in: ssh {port}{remote.address} true"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
