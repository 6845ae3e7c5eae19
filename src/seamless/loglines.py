"""Where the lines of a stored log begin, told from any place in it, so that a log need not be read from its beginning.

Shared by the agent, which searches logs, and the TUI, which shows them: an offset means the same line to both.

A line begins after a newline. A line that has no end in sight is cut where a block of 64 KiB ends that holds no
newline, so no piece is longer than two blocks, and looking at two blocks is enough to know where one begins.
Blocks lie at multiples of their size.
"""

from __future__ import annotations

from typing import Final

BLOCK: Final = 64 * 1024


def starts_after(block: bytes, base: int) -> list[int]:
    """The offsets in (base, base + BLOCK] at which a line begins, in order. `block` lies at `base` in the log; one that
    is shorter than a block is the log's end."""
    starts = []
    at = block.find(b"\n")
    while at >= 0:
        starts.append(base + at + 1)
        at = block.find(b"\n", at + 1)
    if not starts and len(block) == BLOCK:
        starts.append(base + BLOCK)
    return starts


def piece_at(line: int, offset: int) -> int:
    """Where the piece begins that holds `offset`, of a line that begins after a newline (or with the log) at `line`."""
    cut = offset - offset % BLOCK
    return cut if cut - BLOCK >= line else line
