"""As `wire`: places in a log."""

from __future__ import annotations

from typing_extensions import TypedDict


class LogMatchJSON(TypedDict):
    """A line in which something was found."""

    offset: int  # where it begins in the log
    text: str  # as stored; at most 8 KiB of it


class LogSearchJSON(TypedDict):
    """What a moment of searching found, nearest first."""

    matches: list[LogMatchJSON]
    reached: int  # where to go on: the `offset` of the next request
    finished: bool  # nothing is left to be searched in that direction
    size: int  # of the log


class LogPositionJSON(TypedDict):
    """A line of a log."""

    line: int  # its number, from 1
    offset: int  # where it begins
    at: str | None  # when it was written
