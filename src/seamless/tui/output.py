"""What stands between the program and terminals that lack something: Unicode."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_ASCII: Final = str.maketrans(
    {
        "━": "=",
        "╸": ">",
        "╺": "=",
        "─": "-",
        "│": "|",
        "╭": "+",
        "╮": "+",
        "╰": "+",
        "╯": "+",
        "▌": ">",
        "┌": ",",
        "├": "|",
        "└": "`",
        "…": "~",
        "·": "-",
        "⏎": "$",
        "↑": "^",
        "↓": "v",
        "←": "<",
        "→": ">",
        "▔": "-",
        "▁": "_",
        "▊": "|",
        "▎": "|",
        "✔": "+",
        "✘": "x",
        "“": '"',
        "”": '"',
    }
)


class EncodableOnly(LineFilter):
    """Replaces what the terminal's encoding lacks by something as wide."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.control or segment.text.isascii() else segment._replace(text=self._fit(segment.text))
            for segment in segments
        ]

    def _fit(self, text: str) -> str:
        return "".join(char if self._has(char) else "?" * cell_len(char) for char in text.translate(_ASCII))

    def _has(self, char: str) -> bool:
        try:
            char.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True


def lacks_unicode(encoding: str | None) -> bool:
    return (encoding or "ascii").lower().replace("-", "") != "utf8"
