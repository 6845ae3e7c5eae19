"""Running as a user who is not root but may use the Docker Engine, whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

NOBODY = 65534
_SOCKET = Path("/var/run/docker.sock")


def unprivileged(command: Sequence[str]) -> list[str]:
    """`command` as nobody with the engine's group; as it is when the tests themselves are not run by root."""
    return [*_identity(), *command] if os.geteuid() == 0 else list(command)


def hand_over(folder: Path) -> None:
    """Give a folder with all that is in it to the user of `unprivileged`."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(folder)], check=True)


def take_back(folder: Path) -> None:
    """Undo `hand_over`."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "0:0", str(folder)], check=True)


@cache
def _identity() -> tuple[str, ...]:
    group = _SOCKET.stat().st_gid
    identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={group}"]
    # setpriv itself still starts what its user could not: what counts is a program that the program starts.
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import seamless.cli.main'], check=True)"
    probe = [*identity, sys.executable, "-c", again]
    if subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode != 0:
        # The checkout or the interpreter lies in a folder that is closed to others, such as /root: let it be read.
        identity += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return tuple(identity)
