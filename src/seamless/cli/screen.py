"""A block of lines that stays at the bottom of the terminal while other lines flow by above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

_BEGIN_UPDATE: Final = "\x1b[?2026h"  # terminals that know it show what follows at once, without flicker
_END_UPDATE: Final = "\x1b[?2026l"


class Screen:
    """The cursor rests below the block, so that whatever else is written there only follows it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._widths: list[int] = []  # of the block's lines as drawn, in cells
        self._drawn = ""

    def draw(self, above: Sequence[str], block: Sequence[Text]) -> None:
        """Let the lines `above` (sanitised, colours and all) flow by, and show `block` in place of the last one.

        A line of the block is cut at the terminal's width, the block at its height. Nothing is written when
        nothing has changed.
        """
        columns, rows = self._console.size
        shown = [line.copy() for line in block[-max(1, rows - 1) :]]
        for line in shown:
            line.truncate(columns, overflow="ellipsis")
        drawn = self._rendered(shown)
        if above or drawn != self._drawn:
            flowing = "".join(f"{line}\n" for line in above)
            self._console.file.write(f"{_BEGIN_UPDATE}{self._erasure(columns)}{flowing}{drawn}{_END_UPDATE}")
            self._console.file.flush()
            self._widths = [line.cell_len for line in shown]
            self._drawn = drawn

    def _erasure(self, columns: int) -> str:
        """Back to where the block began. On a terminal that was made narrower its lines now take several rows."""
        rows = sum(max(1, -(-width // columns)) for width in self._widths)
        return f"\x1b[{rows}F\x1b[J" if rows else ""

    def _rendered(self, lines: Sequence[Text]) -> str:
        with self._console.capture() as captured:
            for line in lines:
                self._console.print(line)
        return captured.get()
