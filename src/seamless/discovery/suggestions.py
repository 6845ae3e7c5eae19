"""One suggested parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suggestion:
    key: str  # dotted, as below [services.<name>]
    value: str | int | list[str]
    why: str  # follows the value: "EXPOSE in Dockerfile"


def version_in(text: object, *, parts: int = 2) -> str | None:
    """The first version number in a text, with at most so many parts: (">=3.11.2,<4", 2) -> "3.11"."""
    match = re.search(r"(?<![\w.])v?(\d{1,4}(?:\.\d{1,4})*)", text) if isinstance(text, str) else None
    return None if match is None else ".".join(match[1].split(".")[:parts])
