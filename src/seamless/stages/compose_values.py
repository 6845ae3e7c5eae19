"""Values of a resolved Compose model, in the shapes in which Compose 1.29 and 2 write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from seamless.errors import StageError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.I)
_UNITS: Final = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MODES: Final = frozenset(("ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"))
_KINDS: Final = ("bind", "volume", "tmpfs")


@dataclass(frozen=True, slots=True)
class Volume:
    """One entry of a service's `volumes`. `source` is a path (bind), a volume's name, or empty (anonymous)."""

    kind: Literal["bind", "volume", "tmpfs"]
    source: str
    target: str
    read_only: bool = False
    size: int | None = None  # bytes, of a tmpfs


def parse_volume(entry: object) -> Volume:
    """Reads the short form and the long one. Raises StageError with a fragment that names what is not allowed."""
    if isinstance(entry, Mapping):
        return _long_volume(entry)
    parts = unescape(str(entry)).split(":")
    if len(parts) > 3:
        raise StageError(f"{entry} cannot be read")
    mode = parts[2].split(",") if len(parts) == 3 else []
    if unknown := set(mode) - _MODES:
        raise StageError(f"{entry}: the option {', '.join(sorted(unknown))} is not allowed")
    if len(parts) == 1:
        return Volume("volume", "", parts[0])
    kind: Literal["bind", "volume"] = "bind" if parts[0].startswith(("/", ".", "~")) else "volume"
    return Volume(kind, parts[0], parts[1], read_only="ro" in mode)


def _long_volume(entry: Mapping[str, Any]) -> Volume:
    kind, source = str(entry.get("type", "volume")), unescape(str(entry.get("source") or ""))
    target = unescape(str(entry.get("target", "")))
    if kind not in _KINDS:
        raise StageError(f"{target}: a mount of type {kind} is not allowed")
    propagation = _table(entry.get("bind")).get("propagation")
    if propagation not in (None, "", "private", "rprivate"):
        raise StageError(f"{target}: propagation {propagation} would reach into this host")
    if _table(entry.get("volume")).get("subpath"):
        raise StageError(f"{target}: volume.subpath is not allowed")
    size = _table(entry.get("tmpfs")).get("size")
    bytes_ = None if size is None else parse_bytes(size)
    literal: Literal["bind", "volume", "tmpfs"] = "bind" if kind == "bind" else "tmpfs" if kind == "tmpfs" else "volume"
    return Volume(literal, source, target, truthy(entry.get("read_only")), bytes_)


def parse_bytes(value: object) -> int:
    """Bytes of 1048576, "1048576", "512m", "1.5GB". Raises StageError."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise StageError(f"{value} is not a size")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_number(value: object) -> float:
    """A number, perhaps written as text. Raises StageError."""
    try:
        return float(str(value))
    except ValueError:
        raise StageError(f"{value} is not a number") from None


def unescape(text: str) -> str:
    """The text that a Compose file means: `config` writes every dollar sign twice, so that it can be read again."""
    return text.replace("$$", "$")


def escape(text: str) -> str:
    return text.replace("$", "$$")


def listed(value: object) -> list[Any]:
    """None -> [], a list -> itself, anything else -> a list of it."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def as_table(value: object) -> dict[str, Any]:
    """A table, also of the list form `["A=1", "B"]`."""
    if isinstance(value, Mapping):
        return dict(value)
    pairs = (str(entry).partition("=") for entry in listed(value))
    return {name: text if sign else None for name, sign, text in pairs}


def truthy(value: object) -> bool:
    return value is True or str(value).lower() in ("true", "yes", "on", "1")


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
