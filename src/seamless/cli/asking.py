"""Questions to the user: with a default, asked again after an answer that cannot be; without a terminal not asked."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from seamless.errors import UsageError


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str, default: str, check: Callable[[str], str | None]) -> str:
    """The answer, stripped. `check` says what is wrong with one, and None when it is right."""
    while True:
        answer = str(typer.prompt(question, default=default, show_default=bool(default))).strip()
        if (wrong := check(answer)) is None:
            return answer
        print(f"  {wrong}")


def choose(question: str, choices: list[str], default: str) -> str:
    """One of a few words."""

    def check(answer: str) -> str | None:
        return None if answer in choices else f"one of {', '.join(choices)}"

    return ask(f"{question} ({'/'.join(choices)})", default, check)


def confirm(question: str, *, yes: bool, flag: str = "--yes") -> None:
    """Goes on after a yes; without a terminal only with the flag. Raises UsageError, and Abort after a no."""
    if yes:
        return
    if not can_ask():
        raise UsageError(f"{question} Nobody is here to say so", hint=f"Say it beforehand: {flag}")
    typer.confirm(question, abort=True)
