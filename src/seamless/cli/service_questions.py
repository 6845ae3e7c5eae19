"""What `seamless service add` asks of a person at a terminal; what cannot be is asked again at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from seamless.cli import asking
from seamless.errors import RefusedError, UsageError
from seamless.model import SERVICE_NAME

if TYPE_CHECKING:
    from seamless.discovery import Suggestion

_ASKED: Final = ("image", "install", "code_quality", "unit_test", "port", "health")
_NONE: Final = "-"  # the answer that takes nothing
_NAMES: Final = "1 to 63 lower-case letters, digits and hyphens, no hyphen at the ends"


def name_of(text: str, repo: str, folder: str, may_ask: bool) -> str:
    """The service's name: of its folder or repository, or what the user says instead. `text`: the configuration."""
    from seamless.config import editing

    last = re.split(r"[/:]", folder or repo.rstrip("/").removesuffix(".git"))[-1].lower()
    proposed = re.sub(r"[^a-z0-9]+", "-", last)[:63].strip("-")
    if not may_ask:
        if not proposed:
            raise UsageError(f"no name can be made of {repo}", hint="Give one: --name NAME")
        return proposed

    def check(answer: str) -> str | None:
        if not SERVICE_NAME.fullmatch(answer):
            return _NAMES
        try:
            editing.check_new(text, answer)
        except RefusedError as error:
            return error.message
        return None

    return asking.ask("Its name", proposed, check)


def check_name(name: str) -> None:
    """Raises UsageError for what no service can be called."""
    if not SERVICE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a service's name", hint=_NAMES)


def settle(one: Suggestion, may_ask: bool, wrong: Callable[[Any], str | None]) -> Any:
    """The value that is taken: the proposed one, or what the user says instead; "" for none. `wrong` says what is
    wrong with a value, and None when nothing is."""
    shown = "; ".join(one.value.splitlines()) if isinstance(one.value, str) else one.value
    print(f"{f'{one.key} = {json.dumps(shown)}':60}  # {one.why}")
    if not may_ask or one.key not in _ASKED or "\n" in str(one.value):
        return _on_lines(one.value)

    def value_of(answer: str) -> Any:
        if answer == _NONE:
            return ""
        return int(answer) if one.key == "port" and answer.isascii() and answer.isdigit() else answer

    def check(answer: str) -> str | None:
        return None if answer == _NONE else wrong(value_of(answer))

    return _on_lines(value_of(asking.ask(f"  {one.key}, Enter to take it, {_NONE} for none", str(one.value), check)))


def _on_lines(value: Any) -> Any:
    """A script of several lines ends its last one too, so that the quotes after it have a line of their own."""
    return f"{value}\n" if isinstance(value, str) and "\n" in value and not value.endswith("\n") else value
