"""The agent's process: started detached and waited for, told to end and waited for."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from seamless.cli import installing
from seamless.cli.session import Session
from seamless.connection import ConnectionLostError
from seamless.errors import ConfigError, ForbiddenError, RefusedError, SeamlessError, UnavailableError
from seamless.logtext import plain

if TYPE_CHECKING:
    from seamless.wire import VersionJSON

_START_S: Final = 60.0
_STOP_S: Final = 60.0
_POLL_S: Final = 0.05
_SHOWN_LINES: Final = 10
_SHOWN_BYTES: Final = 8192


class AgentDiedError(SeamlessError):
    """An agent that was started ended before it was ready; `exit_code` is its own."""

    def __init__(self, exit_code: int, said: str) -> None:
        super().__init__(said or f"the agent ended with {exit_code} and said nothing")
        self.exit_code = exit_code if exit_code > 0 else 1  # type: ignore[misc]  # the agent's, not the class's


def start(session: Session) -> tuple[VersionJSON, bool]:
    """Start an agent unless one answers, and wait until it is ready; returns its handshake and whether it is new.

    Raises AgentDiedError with the agent's last words when it ends instead, RefusedError when the agent that answers is
    another configuration's.
    """
    config_file = session.config_file
    there = _handshake(session)
    if there and os.path.realpath(there["config_file"]) != os.path.realpath(config_file):
        raise RefusedError(
            f"the agent that runs (pid {there['pid']}, {session.socket_path}) has another configuration:"
            f" {there['config_file']}",
            hint=f"stop it: seamless agent stop; or give this one a place of its own: agent.socket and agent.data_dir"
            f" in {config_file}",
        )
    if there and there["ready"]:
        return there, False
    if installing.serves(config_file):
        installing.ask_systemd("start")
        with session.agent(tells_of_config=True) as agent:
            return agent.version(), True
    log = _open_log(session.data_dir)
    said_from = log.stat().st_size
    process = None if there else _spawn(config_file, log)
    deadline = time.monotonic() + _START_S
    shown = said_from
    while time.monotonic() < deadline:
        shown = _pass_on_warnings(log, shown)
        if (answer := _handshake(session)) and answer["ready"]:
            return answer, process is not None and answer["pid"] == process.pid
        if process and (code := process.poll()) is not None:
            raise AgentDiedError(code, _said(log, said_from))
        time.sleep(_POLL_S)
    raise UnavailableError(f"the agent is not ready after {_START_S:.0f} s; it goes on trying", hint=f"See {log}")


def _spawn(config_file: Path, log: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "seamless", "--config", str(config_file), "agent", "run"]
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=log.parent
        )


def stop(session: Session) -> int:
    """Tell the agent to end and wait until it has; returns the pid that it had."""
    if session.host:
        raise RefusedError(f"the agent of {session.host} is not stopped from here", hint="Stop it where it runs")
    pid = _pid_here(session)
    if _is_service(session):
        installing.ask_systemd("stop")
        return pid
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _STOP_S)[0]:
            raise UnavailableError(
                f"the agent (pid {pid}) has not ended for {_STOP_S:.0f} s", hint=f"If it must be: kill -9 {pid}"
            )
    except ProcessLookupError:
        pass
    except PermissionError:
        raise ForbiddenError(f"the agent (pid {pid}) is another user's", hint="Stop it as that user, or root") from None
    finally:
        os.close(process)
    return pid


def _is_service(session: Session) -> bool:
    """Whether systemd would start the agent again. Without a configuration of ours it is somebody's own."""
    with suppress(ConfigError):
        return installing.serves(session.config_file)
    return False


def _handshake(session: Session) -> VersionJSON | None:
    with suppress(ConnectionLostError, UnavailableError), session.agent(tells_of_config=True) as agent:
        return agent.version()
    return None


def _pid_here(session: Session) -> int:
    """The agent's pid, if it is a process of this host: a forwarded socket ends at another one's."""
    with session.agent(tells_of_config=True) as agent:
        pid = agent.version()["pid"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(str(session.socket_path))
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[0] != pid:
        raise RefusedError(
            f"the agent at {session.socket_path} is not a process of this host", hint="Stop it where it runs"
        )
    return pid


def _open_log(data_dir: Path) -> Path:
    log = data_dir / "agent.log"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError as error:
        raise ConfigError(
            f"cannot write to the data directory {data_dir}: {error.strerror}",
            hint="Set agent.data_dir to one that you may write to",
        ) from None
    return log


def _pass_on_warnings(log: Path, offset: int) -> int:
    """Shows what the agent warns of while it starts, each whole line once; returns where to go on."""
    with log.open("rb") as file:
        file.seek(offset)
        whole, newline, _ = file.read(_SHOWN_BYTES).rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines():
        if " WARNING " in line:
            print(f"seamless: {plain(line.partition(' WARNING ')[2].partition(': ')[2])}", file=sys.stderr)
    return offset + len(whole) + len(newline)


def _said(log: Path, offset: int) -> str:
    """The last lines that the agent wrote, without the prefix that the caller's own message gets anyway."""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - _SHOWN_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-_SHOWN_LINES:]).removeprefix("seamless: ")
