"""Draws the page of a log: its lines, cut or wrapped, and a mark beside one of them."""

from __future__ import annotations

from typing import Any, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from seamless.tui.loglines import Rows
from seamless.tui.logpage import Page

_MARK: Final = "▌"
_DIM: Final = Style(dim=True)


class LogCanvas(Widget, can_focus=True):
    DEFAULT_CSS = "LogCanvas { height: 1fr; }"

    _page: Page

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self._rows = rows
        self._left = 0  # the first column in sight
        self._drawn: list[tuple[bool, Strip]] = []  # whether it is marked, and the row

    @property
    def nothing(self) -> str:
        """What is said where no line is."""
        raise NotImplementedError

    def action_move(self, lines: int) -> None:
        raise NotImplementedError

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3)

    def render_lines(self, crop: Any) -> list[Strip]:
        """The rows in sight, made once for all of them."""
        page, skip = self._page, self._page.top_row
        self._drawn = []
        for line in page.in_sight():
            rows = self._rows.of(line)[skip:]
            self._drawn += [(line.offset == page.mark and number == 0, row) for number, row in enumerate(rows)]
            skip = 0
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y < len(self._drawn):
            marked, row = self._drawn[y]
            row = row.crop(self._left, self._left + width - 1).adjust_cell_length(width - 1)
            return Strip([Segment(_MARK if marked else " ", base), *row.apply_style(base)])
        if y == 0:
            return Strip([Segment(f" {self.nothing}", base + _DIM)]).adjust_cell_length(width, base)
        return Strip.blank(width, base)
