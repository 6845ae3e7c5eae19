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
        try:
            answer = str(typer.prompt(question, default=default, show_default=bool(default))).strip()
        except typer.Abort:
            print()  # the cursor is behind the question
            raise
        if (wrong := check(answer)) is None:
            return answer
        print(f"  {wrong}")


def choose(question: str, choices: list[str], default: str) -> str:
    """One of a few words."""

    def check(answer: str) -> str | None:
        return None if answer in choices else f"one of {', '.join(choices)}"

    return ask(f"{question} ({'/'.join(choices)})", default, check)


def yes_or_no(question: str, *, default: bool) -> bool:
    known = {"": default, "y": True, "yes": True, "n": False, "no": False}

    def check(answer: str) -> str | None:
        return None if answer.lower() in known else "y or n"

    return known[ask(f"{question} [{'Y/n' if default else 'y/N'}]", "", check).lower()]


def confirm(question: str, *, yes: bool, flag: str = "--yes") -> None:
    """Goes on after a yes; without a terminal only with the flag. Raises UsageError, and Exit after a no."""
    if yes:
        return
    if not can_ask():
        raise UsageError(f"{question} Nobody is here to say so", hint=f"Say it beforehand: {flag}")
    if not yes_or_no(question, default=False):
        print("nothing was changed")
        raise typer.Exit(1)
