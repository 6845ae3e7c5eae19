"""One stored line as what the terminal may be shown, in rows of the screen's width."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from seamless.logtext import Sanitiser
from seamless.rendering.formats import local_clock
from seamless.tui.listing import strip_of
from seamless.tui.logsource import Line

if TYPE_CHECKING:
    from seamless.wire_logs import LogPositionJSON

_ROWS: Final = 1000  # lines whose rows are kept
_TAB: Final = 8
_MARKED: Final = 100  # matches that are marked in one line
_MATCH: Final = Style(bold=True, reverse=True)


def shown(data: bytes) -> str:
    """Sanitised, colours and all."""
    sanitiser = Sanitiser()
    return (sanitiser.feed(data) + sanitiser.finish()).replace("\n", " ")


def plain_line(data: bytes) -> str:
    sanitiser = Sanitiser(colour=False)
    return (sanitiser.feed(data) + sanitiser.finish()).replace("\n", " ")


def text_of(data: bytes, expression: Any = None) -> Text:
    """With what `expression` finds marked."""
    line = shown(data)
    text = Text.from_ansi(line) if "\x1b" in line else Text(line)
    if "\t" in line:
        text.expand_tabs(_TAB)
    if expression is not None:
        seen = text.plain.encode()
        for number, match in enumerate(expression.finditer(seen)):
            if number == _MARKED:
                break
            start = len(seen[: match.start()].decode(errors="ignore"))
            text.stylize(_MATCH, start, start + len(seen[match.start() : match.end()].decode(errors="ignore")))
    return text


def where(position: LogPositionJSON | None, end: int, size: int, left: int) -> str:
    """`line 1,234  14:02:11  37 % of 98.2 MB`. `end`: the offset up to which the log is in sight."""
    words = [f"column {left + 1}"] if left else []
    if position is not None:
        words.append(f"line {position['line']:,}")
        words += [local_clock(position["at"])] if position["at"] else []
    if end:
        words.append(f"{100 * min(size, end) // size} % of {_size(size)}")
    return "  ".join(words)


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


class Rows:
    """The rows of lines, as they were made last. `width` None: each line is one row, however wide."""

    def __init__(self) -> None:
        self.width: int | None = None
        self.expression: Any = None
        self._made: OrderedDict[tuple[int, int], list[Strip]] = OrderedDict()

    def forget(self) -> None:
        self._made.clear()

    def of(self, line: Line) -> list[Strip]:
        key = line.offset, len(line.data)
        rows = self._made.get(key)
        if rows is None:
            rows = self._made[key] = _wrapped(strip_of(text_of(line.data, self.expression)), self.width)
            if len(self._made) > _ROWS:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return rows


def _wrapped(strip: Strip, width: int | None) -> list[Strip]:
    if width is None or strip.cell_length <= width:
        return [strip]
    rows: list[Strip] = []
    row: list[Segment] = []
    left = width
    for segment in strip:
        rest = segment
        while rest.cell_length > left:
            head, tail = rest.split_cells(left)
            if head.text + tail.text != rest.text and (left > 1 or row):  # a wide character was cut into two blanks
                head, tail = rest.split_cells(left - 1)
            rest = tail
            rows.append(Strip([*row, head]))
            row, left = [], width
        if rest.text:
            row.append(rest)
            left -= rest.cell_length
    if row:
        rows.append(Strip(row))
    return rows
