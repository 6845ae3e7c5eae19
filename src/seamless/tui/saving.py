"""A log, saved to a file of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from seamless.errors import UsageError

if TYPE_CHECKING:
    from seamless.client import Client


def place(typed: str, name: str) -> Path:
    """The file that is meant; `name` in a folder that was typed. Raises UsageError."""
    try:
        path = Path(typed).expanduser().absolute()
    except RuntimeError:  # nobody has such a home
        raise UsageError(f"there is no {typed.split('/')[0]}", hint="A path as /tmp/x.log, or ~/x.log") from None
    return path / name if path.is_dir() else path


def save(agent: Client, run: str, stage: str, path: Path) -> int:
    """The stored bytes, into a new file: all of them, or there is none. Returns how many. Raises UsageError for what
    cannot be written, and what the client raises."""
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise UsageError(f"there is {path} already", hint="Save under another name") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with open(target, "wb") as file:
            return sum(file.write(chunk) for chunk in agent.log(run, stage))
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"{path} cannot be written: {error.strerror}", hint="Nothing was kept of it") from None
        raise
