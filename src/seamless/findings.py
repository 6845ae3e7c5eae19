"""What a look at something found: `check`, `doctor`, `login` and `webhook check` all tell their results as findings.

Only the standard library, so that the CLI prints what the agent found without loading what the agent needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, cast, get_args

from seamless.errors import SeamlessError

Level = Literal["ok", "warning", "error", "not_checked"]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and how it is. Make one by `ok`, `warning`, `error` or `not_checked`."""

    subject: str  # what was looked at, in the reader's words: "engine", or a key: "services.payment.repo"
    level: Level
    what: str  # "Docker Engine 26.1.5", "has no disk space left"; for not_checked: why not
    mend: str | None = None  # a command to type, or a key to change and how; every warning and error has one


def ok(subject: str, what: str) -> Finding:
    return Finding(subject, "ok", what)


def warning(subject: str, what: str, mend: str) -> Finding:
    """Works today, and will not always: `mend` says what to do about it."""
    return Finding(subject, "warning", what, mend)


def error(subject: str, what: str, mend: str) -> Finding:
    """Something that Seamless needs does not work; `mend` says what makes it work."""
    return Finding(subject, "error", what, mend)


def not_checked(subject: str, why: str, mend: str | None = None) -> Finding:
    """Nothing is known of it, and that is no failing: it is not configured, or what it stands on is missing."""
    return Finding(subject, "not_checked", why, mend)


def failed(subject: str, cause: SeamlessError, *, mend: str) -> Finding:
    """An error's message as a finding; its hint is the mend, and `mend` when it has none."""
    return Finding(subject, "error", cause.message, cause.hint or mend)


def exit_code(findings: Iterable[Finding]) -> int:
    """What a command that prints them ends with: 1 with an error among them, else 0."""
    return int(any(finding.level == "error" for finding in findings))


def to_json(finding: Finding) -> dict[str, Any]:
    """All four keys, always."""
    return asdict(finding)


def from_json(data: dict[str, Any]) -> Finding:
    """The other way. A level of a newer version is not_checked: this one cannot judge it."""
    level = cast(Level, data["level"]) if data["level"] in LEVELS else "not_checked"
    return Finding(str(data["subject"]), level, str(data["what"]), data["mend"])
