"""A program at a terminal that asks, and a test that answers."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 60.0


class Terminal:
    """What `seamless` shows on a pseudo-terminal, and what is typed at it."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._unread = b""

    def read_until(self, text: str) -> str:
        """What is shown up to and with this text, since the last one that was waited for."""
        deadline = time.monotonic() + _PATIENCE_S
        while text.encode() not in self._unread:
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self._unread!r}"
            if select.select([self._master], [], [], 1)[0]:
                self._unread += os.read(self._master, 4096)
        before, wanted, self._unread = self._unread.partition(text.encode())
        return (before + wanted).decode()

    def answer(self, question: str, text: str) -> None:
        """Waits for the question, and types a line."""
        self.read_until(question)
        self.type(f"{text}\n")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Waits for the program's end; its exit code."""
        return self.process.wait(_PATIENCE_S)


@contextmanager
def at_a_terminal(*arguments: str, cwd: Path, **environment: str) -> Iterator[Terminal]:
    """`seamless` with these arguments, as somebody at a terminal has it."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "seamless", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        os.close(master)
        process.kill()
        process.wait()
