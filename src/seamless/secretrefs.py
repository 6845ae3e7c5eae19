"""Reads a secret from where its reference points, at the moment it is needed. Nothing is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from seamless.config import SecretRef
from seamless.errors import ConfigError

SECRET_MIN: Final = 6  # characters; shorter ones cannot be masked without masking half of every log
_SECRET_MAX: Final = 64 * 1024  # bytes


def resolve(ref: SecretRef) -> str:
    """The secret, without one newline at its end. Reads a file: call it from a thread when the disk may be slow.

    Raises ConfigError, which names the reference and never the value.
    """
    source, place = next((name, getattr(ref, name)) for name in _READERS if getattr(ref, name) is not None)
    try:
        value = _READERS[source](place)
    except _UnreadableError as error:
        raise ConfigError(f"the secret {ref.reference} {error}") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if len(value) < SECRET_MIN:
        raise ConfigError(
            f"the secret {ref.reference} has fewer than {SECRET_MIN} characters",
            hint="so short a value cannot be masked in logs; use a longer one, or env if it is no secret",
        )
    if "\0" in value:
        raise ConfigError(f"the secret {ref.reference} holds a NUL character, which no variable can")
    return value


class _UnreadableError(Exception):
    """Says why, to follow the reference in a sentence."""


def _from_env(name: str) -> str:
    if name not in os.environ:
        raise _UnreadableError("is not set in the agent's environment")
    return os.environ[name]


def _from_file(path: os.PathLike[str]) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_SECRET_MAX + 1)
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    if len(content) > _SECRET_MAX:
        raise _UnreadableError("is larger than 64 KiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _UnreadableError("is not UTF-8 text") from None


_READERS: Final[Mapping[str, Callable[[Any], str]]] = {"env": _from_env, "file": _from_file}
