"""Where GitHub shows pull requests to git."""

from __future__ import annotations

import re
from typing import Final

PULL_REQUEST_HEADS: Final = "refs/pull/*/head"


def pull_request_ref(number: int) -> str:
    return f"refs/pull/{number}/head"


def pull_request_number(ref: str) -> int | None:
    """The number of the pull request whose head this is; None for any other ref."""
    match = re.fullmatch(r"refs/pull/([1-9][0-9]{0,17})/head", ref)
    return None if match is None else int(match[1])
