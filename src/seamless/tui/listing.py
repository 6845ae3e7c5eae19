"""A list of rows in columns that fit the terminal: moved in, filtered and sorted by keys, drawn where it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

_GAP: Final = 2
_CURSOR: Final = Style(reverse=True)
_HEAD: Final = Style(bold=True, underline=True)


@dataclass(frozen=True, slots=True)
class Column:
    """`least`: cells without which it is not shown; `rank`: columns with a higher one give way first. The one that
    `grows` takes what is left."""

    title: str
    rank: int = 0
    least: int = 0
    grows: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """`sort`: values by which the list can be ordered, for each of `Listing`'s orders."""

    key: str
    cells: tuple[Text, ...]
    sort: tuple[Any, ...] = ()

    @property
    def plain(self) -> str:
        return " ".join(cell.plain for cell in self.cells)


class Listing(Widget, can_focus=True):
    DEFAULT_CSS = "Listing { height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Open", id="open"),
        Binding("j,down", "move(1)", "Down", show=False, id="down"),
        Binding("k,up", "move(-1)", "Up", show=False, id="up"),
        Binding("g,home", "move(-1000000)", "First", show=False, id="first"),
        Binding("G,end", "move(1000000)", "Last", show=False, id="last"),
        Binding("ctrl+d,pagedown", "page(1)", "Page down", show=False, id="page_down"),
        Binding("ctrl+u,pageup", "page(-1)", "Page up", show=False, id="page_up"),
        Binding("o", "next_order", "Sort", id="sort"),
    ]

    class _OfListing(Message):
        def __init__(self, listing: Listing, key: str) -> None:
            super().__init__()
            self._listing = listing
            self.key = key

        @property
        def control(self) -> Listing:
            return self._listing

    class Chosen(_OfListing):
        """Enter, on the row `key`."""

    class Moved(_OfListing):
        """The cursor is on the row `key` now, or other rows are shown."""

    class Resized(_OfListing):
        """The rows may be others, where they depend on the width."""

    class NearEnd(_OfListing):
        """The cursor has come to the last row: there may be older ones to fetch."""

    def __init__(
        self,
        columns: Callable[[int], Sequence[Column]],
        *,
        orders: Sequence[str] = (),
        empty: str = "nothing yet",
        id: str | None = None,
    ) -> None:
        """`columns` are those for a width. `orders`: what the list can be sorted by, the first at the start."""
        super().__init__(id=id)
        self._columns_for = columns
        self.orders = orders
        self.order = 0
        self.empty = empty
        self.waiting = True  # for the first answer
        self._rows: list[Row] = []
        self.shown: list[Row] = []
        self._lines: list[Text] = []
        self._head = Text()
        self._pattern = ""
        self.cursor = 0
        self._top = 0

    # What is shown

    @property
    def key(self) -> str | None:
        """Of the row under the cursor."""
        return self.shown[self.cursor].key if self.shown else None

    @property
    def total(self) -> int:
        return len(self._rows)

    @property
    def pattern(self) -> str:
        return self._pattern

    def show(self, rows: Sequence[Row]) -> None:
        """Other rows; the cursor stays on its key, where it is still there."""
        self._rows = list(rows)
        self._arrange()

    def filter(self, pattern: str) -> None:
        """Only rows in which each word of `pattern` occurs."""
        self._pattern = pattern
        self._arrange()
        self.refresh(Region(0, 0, self.size.width, 1))

    def go_to(self, key: str) -> None:
        for number, row in enumerate(self.shown):
            if row.key == key:
                self._place(number)

    def _arrange(self) -> None:
        key = self.key
        words = self._pattern.lower().split()
        rows = [row for row in self._rows if all(word in row.plain.lower() for word in words)]
        if self.orders:
            rows.sort(key=lambda row: row.sort[self.order])
        self.shown = rows
        at = next((number for number, row in enumerate(rows) if row.key == key), min(self.cursor, len(rows) - 1))
        self._lay_out()
        self._place(max(0, at))

    def _lay_out(self) -> None:
        """Compose the lines, and draw those that have changed."""
        before, head = self._lines, self._head
        columns = list(self._columns_for(self.size.width))
        widths = self._widths(columns)
        self._head = _line([Text(column.title) for column in columns], columns, widths)
        self._lines = [_line(row.cells, columns, widths) for row in self.shown]
        if len(before) != len(self._lines) or differs(head, self._head):
            self.refresh()
            return
        for number, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if differs(old, new):
                self._draw(number)

    def _widths(self, columns: list[Column]) -> list[int]:
        """Of each column; 0 for one that is left out."""
        natural = [
            max([len(column.title), *(row.cells[number].cell_len for row in self._rows)])
            for number, column in enumerate(columns)
        ]
        least = [column.least if column.grows else width for column, width in zip(columns, natural, strict=True)]
        wanted = [width > 0 for width in natural]
        for rank in sorted({column.rank for column in columns if column.rank}, reverse=True):
            used = sum(width + _GAP for width, want in zip(least, wanted, strict=True) if want) - _GAP
            if used <= self.size.width - 2:
                break
            wanted = [want and column.rank != rank for want, column in zip(wanted, columns, strict=True)]
        widths = [width if want else 0 for width, want in zip(least, wanted, strict=True)]
        left = self.size.width - 2 - sum(width + _GAP for width in widths if width) + _GAP
        return [
            max(0, min(width + left, max(natural[number], width))) if columns[number].grows and width else width
            for number, width in enumerate(widths)
        ]

    # Drawing

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        number = self._top + y - 1
        base = self.rich_style
        if y == 0:
            return _strip(self._headline(width), width, base + _HEAD)
        if number < len(self._lines):
            if self._is_cursor(number):
                # One bar: reversed, the colours of its cells would be a patchwork; glyph and word tell the states.
                return Strip([Segment(_strip(self._lines[number], width, base).text, base + _CURSOR)], width)
            return _strip(self._lines[number], width, base)
        if not self.shown and y == 1:
            none = f'nothing matches "{self._pattern}"' if self._rows else self.empty
            none = "asking the agent …" if self.waiting else none
            return _strip(Text(f" {none}", "dim"), width, base)
        return Strip.blank(width, base)

    def _headline(self, width: int) -> Text:
        """The columns' titles; of a list that is filtered also by what, and how much of it that leaves."""
        if not self._pattern:
            return self._head
        told = f'  "{self._pattern}" {len(self.shown)} of {len(self._rows)} '
        head = self._head.copy()
        head.truncate(max(0, width - cell_len(told)), pad=True)
        return head.append(told)

    def _is_cursor(self, number: int) -> bool:
        return number == self.cursor and self.has_focus

    def _draw(self, number: int) -> None:
        self.refresh(Region(0, number - self._top + 1, self.size.width, 1))

    def on_resize(self) -> None:
        self._lay_out()
        self._place(self.cursor)
        self.post_message(self.Resized(self, self.key or ""))

    def on_focus(self) -> None:
        self._draw(self.cursor)

    def on_blur(self) -> None:
        self._draw(self.cursor)

    # Moving

    @property
    def _page(self) -> int:
        return max(1, self.size.height - 1)

    def _place(self, number: int) -> None:
        number = max(0, min(number, len(self.shown) - 1))
        before, self.cursor = self.cursor, number
        self.post_message(self.Moved(self, self.key or ""))
        top = min(max(self._top, number - self._page + 1), number, max(0, len(self.shown) - self._page))
        if top != self._top:
            self._top = top
            self.refresh()
        elif before != number:
            self._draw(before)
            self._draw(number)

    def action_move(self, rows: int) -> None:
        self._place(self.cursor + rows)
        if rows > 0 and self.key is not None and self.cursor == len(self.shown) - 1:
            self.post_message(self.NearEnd(self, self.key))

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self._page // 2))

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self, self.key))

    def action_next_order(self) -> None:
        if self.orders:
            self.order = (self.order + 1) % len(self.orders)
            self._arrange()
            self.notify(f"sorted by {self.orders[self.order]}", timeout=2, markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "next_order" or bool(self.orders)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        number = self._top + event.y - 1
        if 0 <= number < len(self.shown) and event.y > 0:
            if number == self.cursor:
                self.action_choose()
            self._place(number)


def _line(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int]) -> Text:
    line = Text(" ", no_wrap=True)
    for cell, column, width in zip(cells, columns, widths, strict=True):
        if not width:
            continue
        cell = cell.copy()
        cell.truncate(width, overflow="ellipsis")
        space = " " * (width - cell.cell_len)
        if column.right:
            line.append(space).append_text(cell)
        else:
            line.append_text(cell).append(space)
        line.append(" " * _GAP)
    return line


def differs(one: Text, other: Text) -> bool:
    return one.plain != other.plain or one.spans != other.spans


def _strip(line: Text, width: int, style: Style) -> Strip:
    return strip_of(line).adjust_cell_length(width, style).crop(0, width).apply_style(style)


def strip_of(line: Text) -> Strip:
    """A line of text without an end, its styles resolved."""
    if not line.spans:
        return Strip([Segment(line.plain, Style.parse(line.style) if isinstance(line.style, str) else line.style)])
    from rich.console import Console

    global _console
    if _console is None:
        _console = Console(width=10_000, color_system="truecolor", force_terminal=True)
    return Strip(list(line.render(_console, end="")))


_console: Any = None
