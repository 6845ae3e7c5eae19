"""Reads secrets from where their references point, at the moment they are needed; writes those that it is given.

Variables and files are read here and nothing of them is kept. What lies elsewhere (`ssm`, `secretsmanager`) is read by
readers that the agent's composition root connects: this room knows no network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from seamless.config import SecretRef
from seamless.errors import ConfigError, UnavailableError

SECRET_MIN: Final = 6  # characters; shorter ones cannot be masked without masking half of every log
_SECRET_MAX: Final = 64 * 1024  # bytes

Reader = Callable[[Sequence[str]], Mapping[str, "str | SecretUnreadableError"]]
"""Reads several places of one source with few requests: each place -> its secret, or why it cannot be had.

Called from threads. Raises ConfigError or UnavailableError for what concerns them all."""


class SecretUnreadableError(Exception):
    """Says why, to follow the reference in a sentence; `hint` says what to do."""

    def __init__(self, why: str, hint: str | None = None) -> None:
        super().__init__(why)
        self.hint = hint


def connect(readers: Mapping[str, Reader]) -> None:
    """Has the references of these sources read by these readers, from now on and for the whole program."""
    _connected.update(readers)


def can_read(ref: SecretRef) -> bool:
    """Whether this program knows how to read such a reference; the secret itself may be missing."""
    return ref.source in _OF_THE_HOST or ref.source in _connected


def resolve(ref: SecretRef) -> str:
    """The secret, without one newline at its end. Reads files and asks AWS: call it from a thread.

    Raises ConfigError, or UnavailableError when its source does not answer; both name the reference, never the value.
    """
    return resolve_all({"": ref})[""]


def resolve_all(refs: Mapping[str, SecretRef]) -> dict[str, str]:
    """Several at once, by the same names; each source is asked once. Raises as `resolve`, for the first that fails."""
    of_source: dict[str, list[SecretRef]] = {}
    for ref in refs.values():
        of_source.setdefault(ref.source, []).append(ref)
    found = {source: _read(source, wanted) for source, wanted in of_source.items()}
    return {name: _checked(ref, found[ref.source][ref.place]) for name, ref in refs.items()}


def write_secret(target: Path, value: str) -> None:
    """Makes the file, 0600, whole or not at all; what was there before is replaced. Raises OSError."""
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(target)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _read(source: str, refs: list[SecretRef]) -> Mapping[str, str | SecretUnreadableError]:
    places = list(dict.fromkeys(ref.place for ref in refs))
    if source in _OF_THE_HOST:
        return {place: _attempted(_OF_THE_HOST[source], place) for place in places}
    if source not in _connected:
        return {place: SecretUnreadableError("can be read by the agent only") for place in places}
    try:
        return _connected[source](places)
    except (ConfigError, UnavailableError) as error:
        message = f"the secret {refs[0].reference} cannot be read: {error.message}"
        raise type(error)(message, hint=error.hint) from error


def _attempted(read: Callable[[str], str], place: str) -> str | SecretUnreadableError:
    try:
        return read(place)
    except SecretUnreadableError as error:
        return error


def _checked(ref: SecretRef, value: str | SecretUnreadableError) -> str:
    if isinstance(value, SecretUnreadableError):
        raise ConfigError(f"the secret {ref.reference} {value}", hint=value.hint)
    value = value.removesuffix("\n").removesuffix("\r")
    if len(value) < SECRET_MIN:
        raise ConfigError(
            f"the secret {ref.reference} has fewer than {SECRET_MIN} characters",
            hint="so short a value cannot be masked in logs; use a longer one, or env if it is no secret",
        )
    if "\0" in value:
        raise ConfigError(f"the secret {ref.reference} holds a NUL character, which no variable can")
    return value


def _from_env(name: str) -> str:
    if name not in os.environ:
        raise SecretUnreadableError("is not set in the agent's environment")
    return os.environ[name]


def _from_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_SECRET_MAX + 1)
    except OSError as error:
        raise SecretUnreadableError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    if len(content) > _SECRET_MAX:
        raise SecretUnreadableError("is larger than 64 KiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SecretUnreadableError("is not UTF-8 text") from None


_OF_THE_HOST: Final[Mapping[str, Callable[[str], str]]] = {"env": _from_env, "file": _from_file}
_connected: Final[dict[str, Reader]] = {}
