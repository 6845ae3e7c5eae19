"""Programs that the agent runs on its own host (git, the builder, Compose), all in the same way.

A program gets the environment it is given and nothing else, leads a process group of its own, and
dies with the agent (the kernel's parent-death signal, set by util-linux's `setpriv`), so that a
killed agent leaves no half-supervised program behind. Its output goes to a spool file or is captured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

from seamless.errors import UnavailableError

_CAPTURE_LIMIT = 64 * 1024 * 1024
_KILL_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """`argv[0]` is looked up on the agent's PATH. `env` is the whole environment; see `base_environment`."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stdin: bytes | None = None


@dataclass(frozen=True, slots=True)
class Captured:
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def message(self) -> str:
        """The last line of what the program said on stderr, for an error's text."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.exit_code}"


class ProgramTimeoutError(Exception):
    """The program did not end in time and was killed with its process group."""


def base_environment() -> dict[str, str]:
    """What a program may know of the agent's environment: where programs, certificates and temporary files are."""
    kept = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **environment}


async def run(program: Program, *, output: Path, timeout_s: float | None = None) -> int:
    """Appends both streams to `output`; returns the exit code (negative: the signal that ended it).

    Raises ProgramTimeoutError, and UnavailableError when there is no such program. Cancelling kills
    the process group: TERM, then KILL after five seconds.
    """
    with open(output, "ab", buffering=0) as spool:
        process = await _spawn(program, stdout=spool, stderr=spool)
        await _finish(process, program.stdin, timeout_s)
    assert process.returncode is not None
    return process.returncode


async def capture(program: Program, *, timeout_s: float | None = None, stderr: Path | None = None) -> Captured:
    """As `run`, but returns what the program wrote (at most 64 MiB); with `stderr` that stream is appended there."""
    with contextlib.ExitStack() as stack:
        err: int | IO[bytes] = asyncio.subprocess.PIPE
        if stderr is not None:
            err = stack.enter_context(open(stderr, "ab", buffering=0))
        process = await _spawn(program, stdout=asyncio.subprocess.PIPE, stderr=err)
        out, errors = await _finish(process, program.stdin, timeout_s)
    assert process.returncode is not None
    return Captured(process.returncode, out[:_CAPTURE_LIMIT], errors[:_CAPTURE_LIMIT])


async def _spawn(program: Program, *, stdout: int | IO[bytes], stderr: int | IO[bytes]) -> asyncio.subprocess.Process:
    executable = shutil.which(program.argv[0])
    if executable is None:
        raise UnavailableError(f"there is no program {program.argv[0]} on this host", hint="install it")
    try:
        return await asyncio.create_subprocess_exec(
            *_dies_with_agent(),
            executable,
            *program.argv[1:],
            stdin=asyncio.subprocess.DEVNULL if program.stdin is None else asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=dict(program.env),
            cwd=program.cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise UnavailableError(f"{program.argv[0]} could not be started: {error}") from error


async def _finish(
    process: asyncio.subprocess.Process, stdin: bytes | None, timeout_s: float | None
) -> tuple[bytes, bytes]:
    try:
        async with asyncio.timeout(timeout_s):
            out, errors = await process.communicate(stdin)
    except TimeoutError:
        await _kill(process)
        raise ProgramTimeoutError from None
    except asyncio.CancelledError:
        await asyncio.shield(_kill(process))
        raise
    return out or b"", errors or b""


async def _kill(process: asyncio.subprocess.Process) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _KILL_GRACE_S)
            return


@cache
def _dies_with_agent() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
