"""Reads a configuration file into tables, for all who do: the same files are accepted everywhere, in the same words.

Only the standard library: the CLI reads so before it needs more of the configuration than a path.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import Any, Final

from seamless.errors import ConfigError

_FILE_MAX: Final = 2**20  # bytes
_PLACE: Final = re.compile(r"(.*) \(at (line \d+, column \d+|end of document)\)", re.DOTALL)


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables. Raises ConfigError, which names the file as `shown` does, and the line."""
    name = shown(path)
    try:
        content = _content(path)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise ConfigError(f"{name}: cannot be read: {why}", hint=_hint(error, name)) from error
    if content is None:
        raise ConfigError(f"{name}: cannot be read: is neither a file nor a link to one")
    if len(content) > _FILE_MAX:
        raise ConfigError(f"{name}: is larger than 1 MiB, which no configuration needs")
    return _parsed(content, name)


def _hint(error: OSError, name: str) -> str | None:
    match error:
        case FileNotFoundError():
            return f"seamless --config {shlex.quote(name)} init writes one"
        case PermissionError():
            return "as its owner, or root: sudo seamless …"
        case IsADirectoryError():
            return "--config names a file"
    return None


def shown(path: Path) -> str:
    """As short as it is clear: relative when it is below the working directory, unless that is / (the daemon's)."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # the folder was removed under us
        return str(path)
    path = Path(folder, path)
    return str(path.relative_to(folder) if folder != "/" and path.is_relative_to(folder) else path)


def _content(path: Path) -> bytes | None:
    """None for a pipe or a device, which would be waited for, and is gone when it was read."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return file.read(_FILE_MAX + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}: line {line}: is not UTF-8 text") from error
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply") from None
    except ValueError as error:  # besides TOMLDecodeError: numbers too long for Python
        match = _PLACE.fullmatch(str(error))
        text, place = (match[1], match[2]) if match else (str(error), "not TOML")
        raise ConfigError(f"{name}: {place}: {text[:1].lower()}{text[1:]}") from error
