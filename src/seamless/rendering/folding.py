"""Lines that are wider than the screen, broken where they may be."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len
from rich.text import Text

_LEAST_ROOM: Final = 20  # cells; with less beside the indentation it is not worth having


def folded(line: Text, width: int | None, indent: int) -> list[Text]:
    """`line` in rows of at most `width` cells, broken at spaces, all but the first indented.

    A word that is wider than a row stays whole. Without a width there is one row.
    """
    if width is None:
        return [line]
    indent = indent if width - indent >= _LEAST_ROOM else 0
    rows: list[Text] = []
    rest, room = line, width
    while rest.cell_len > room and (at := _last_break(rest.plain, room)):
        row, rest = rest.divide([at])
        row.rstrip()
        rows.append(row)
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        room = width - indent
    rows.append(rest)
    return [rows[0], *(Text(" " * indent, no_wrap=True).append_text(row) for row in rows[1:])]


def _last_break(text: str, room: int) -> int:
    """Where the first row ends: at the last space within `room` cells, else at the first one at all; 0: nowhere."""
    start = len(text) - len(text.lstrip())
    spaces = [at for at in range(start, len(text.rstrip())) if text[at] == " "]
    within = [at for at in spaces if cell_len(text[:at]) <= room]
    return within[-1] if within else next(iter(spaces), 0)
