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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Final

from seamless.errors import UnavailableError

_CAPTURE_LIMIT = 64 * 1024 * 1024
_CHUNK = 64 * 1024
_KILL_GRACE_S = 5.0
_UMASK = 0o022  # what a program makes does not depend on how the agent was started; its data folder keeps it private


@dataclass(frozen=True, slots=True)
class Program:
    """`argv[0]` is looked up on the agent's PATH. `env` is the whole environment; see `base_environment`.

    A `stdin` that is awaited holds the program back at its standard input, once it has started.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # it may hold secrets
    cwd: Path | None = None
    stdin: bytes | Awaitable[bytes] | None = None


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
    """The program did not end in time and was killed with its process group; the message says what was too long."""


# How git serves a repository of this host that belongs to another user: to this one call, and only to read.
LOCAL_UPLOAD_PACK: Final = "git -c 'safe.directory=*' upload-pack"


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
        async with _supervised(process, timeout_s=timeout_s):
            await _feed(process, program.stdin)
            return await process.wait()


async def capture(
    program: Program, *, timeout_s: float | None = None, silence_s: float | None = None, stderr: Path | None = None
) -> Captured:
    """As `run`, but returns what the program wrote (at most 64 MiB of each stream).

    With `stderr`, that stream is appended to the file as well, as it comes. With `silence_s`, a
    program that writes nothing to either stream for so long is killed too (ProgramTimeoutError).
    """
    with contextlib.ExitStack() as stack:
        copy = None if stderr is None else stack.enter_context(open(stderr, "ab", buffering=0))
        process = await _spawn(program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        async with _supervised(process, timeout_s=timeout_s), _silence(silence_s) as heard:
            _, out, errors = await asyncio.gather(
                _feed(process, program.stdin), _drain(process.stdout, heard), _drain(process.stderr, heard, copy)
            )
            exit_code = await process.wait()
    return Captured(exit_code, out, errors)


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
            umask=_UMASK,
        )
    except OSError as error:
        raise UnavailableError(f"{program.argv[0]} could not be started: {error}") from error


@contextlib.asynccontextmanager
async def _supervised(process: asyncio.subprocess.Process, *, timeout_s: float | None) -> AsyncIterator[None]:
    """Kills the program's group when the body does not end in time, or at all."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        await _kill(process)
        raise ProgramTimeoutError(f"was not done after {timeout_s:g} s") from None
    except BaseException:
        await asyncio.shield(_kill(process))
        raise


@contextlib.asynccontextmanager
async def _silence(limit_s: float | None) -> AsyncIterator[Callable[[], None]]:
    """Ends the body when the function that it gets was not called for so long."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit_s) as limit:
            yield lambda: limit.reschedule(None if limit_s is None else loop.time() + limit_s)
    except TimeoutError:
        raise ProgramTimeoutError(f"wrote nothing for {limit_s:g} s") from None


async def _feed(process: asyncio.subprocess.Process, stdin: bytes | Awaitable[bytes] | None) -> None:
    if stdin is None:
        return
    assert process.stdin is not None
    data = stdin if isinstance(stdin, bytes) else await stdin
    with contextlib.suppress(ConnectionError):  # a program may end without reading what it was given
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _drain(stream: asyncio.StreamReader, heard: Callable[[], None], copy: IO[bytes] | None = None) -> bytes:
    """Reads to the end whatever is kept of it, so that the program never waits for its reader."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        heard()
        if copy is not None:
            copy.write(chunk)
        kept += chunk[: _CAPTURE_LIMIT - len(kept)]
    return bytes(kept)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _KILL_GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)  # also what outlived the program itself
    await process.wait()


@cache
def _dies_with_agent() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
