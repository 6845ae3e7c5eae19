"""`seamless agent`: run, start, stop and ask after the daemon."""

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
from typing import TYPE_CHECKING, Annotated, Final

import typer

from seamless.cli.session import Session, print_json, session_of
from seamless.errors import (
    AgentUnreachableError,
    ConfigError,
    ForbiddenError,
    RefusedError,
    SeamlessError,
    UnavailableError,
)

if TYPE_CHECKING:
    from seamless.wire import VersionJSON

app = typer.Typer(no_args_is_help=True, help="Run, start, stop or ask after the daemon.")
_START_S: Final = 60.0
_STOP_S: Final = 60.0
_POLL_S: Final = 0.05
_SHOWN_LINES: Final = 10


class AgentDiedError(SeamlessError):
    """An agent that was started ended before it was ready; `exit_code` is its own."""

    def __init__(self, exit_code: int, said: str) -> None:
        super().__init__(said or f"the agent ended with {exit_code} and said nothing")
        self.exit_code = exit_code if exit_code > 0 else 1  # type: ignore[misc]  # the agent's, not the class's


@app.command()
def run(context: typer.Context) -> None:
    """Run the agent in the foreground, until it is told to stop (Ctrl-C, SIGTERM).

    \b
    Example:
      seamless --config /etc/seamless/config.toml agent run
    """
    from seamless.agent.main import serve

    raise typer.Exit(serve(session_of(context).config_file))


@app.command()
def start(context: typer.Context) -> None:
    """Start the agent in the background; returns when it is ready.

    Its log is agent.log in the data directory.

    \b
    Example:
      seamless agent start
    """
    session = session_of(context)
    config_file = session.config_file
    if there := _answering(session):
        print(f"an agent is running already (pid {there['pid']}, {session.socket_path})")
        return
    log = _open_log(session.data_dir)
    said_from = log.stat().st_size
    argv = [sys.executable, "-m", "seamless", "--config", str(config_file), "agent", "run"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    ready = _await_ready(session, process, log, said_from)
    print(f"the agent is ready (pid {ready['pid']}, {session.socket_path})")
    if ready["config_error"]:
        print(f"seamless: {ready['config_error']}", file=sys.stderr)


@app.command()
def stop(context: typer.Context) -> None:
    """Stop the agent. Stages that run go on in their containers, and the next agent takes them up.

    \b
    Example:
      seamless agent stop
    """
    session = session_of(context)
    pid = _answering_here(session)["pid"]
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _STOP_S)[0]:
            raise UnavailableError(
                f"the agent (pid {pid}) has not ended for {_STOP_S:.0f} s", hint=f"If it must be: kill -9 {pid}"
            )
    except PermissionError:
        raise ForbiddenError(f"the agent (pid {pid}) is another user's", hint="Stop it as that user, or root") from None
    finally:
        os.close(process)
    print(f"the agent (pid {pid}) has ended; stages that were running go on in their containers")


@app.command()
def status(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Tell whether an agent answers, and which; exit code 3 when none does.

    \b
    Example:
      seamless agent status --json
    """
    session = session_of(context)
    with session.agent() as agent:
        answer = agent.version()
    if as_json:
        print_json(answer)
        return
    state = "ready" if answer["ready"] else "starting"
    print(f"agent {answer['version']} is {state} (pid {answer['pid']})")
    print(f"  socket         {session.socket_path}")
    print(f"  configuration  {answer['config_file']}")
    print(f"  data           {answer['data_dir']}")
    if answer["config_error"]:
        print(f"  not in force   {answer['config_error']}")


def _answering(session: Session) -> VersionJSON | None:
    from seamless.connection import ConnectionLostError

    with session.agent() as agent:
        try:
            return agent.version()
        except ConnectionLostError:
            return None


def _answering_here(session: Session) -> VersionJSON:
    """The agent that answers, if it is a process of this host: a forwarded socket ends at another one's."""
    with session.agent() as agent:
        answer = agent.version()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(str(session.socket_path))
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if pid != answer["pid"]:
        raise RefusedError(
            f"the agent at {session.socket_path} is not a process of this host", hint="Stop it where it runs"
        )
    return answer


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


def _await_ready(session: Session, process: subprocess.Popen[bytes], log: Path, said_from: int) -> VersionJSON:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if (code := process.poll()) is not None:
            raise AgentDiedError(code, _said(log, said_from))
        with suppress(AgentUnreachableError, UnavailableError):
            answer = _answering(session)
            if answer and answer["ready"]:
                return answer
        time.sleep(_POLL_S)
    raise UnavailableError(
        f"the agent (pid {process.pid}) is not ready after {_START_S:.0f} s; it goes on trying", hint=f"See {log}"
    )


def _said(log: Path, offset: int) -> str:
    """The last lines that the agent wrote, without the prefix that the caller's own message gets anyway."""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-_SHOWN_LINES:]).removeprefix("seamless: ")
