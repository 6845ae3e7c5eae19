"""The log view: what its keys do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import BindingType

from seamless.tui.logkeys import KEYS
from seamless.tui.loglines import plain_line
from seamless.tui.logmatches import Matching
from seamless.tui.logpage import Page
from seamless.tui.logreader import LogReader
from seamless.tui.logsearch import ERRORS, Search

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire_logs import LogPositionJSON

_SIDEWAYS: Final = 8


class LogView(LogReader):
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    # Moving

    def action_move(self, lines: int) -> None:
        self._move(lines, lambda page: page.move_mark(lines))

    def action_page(self, pages: int) -> None:
        self._move(pages, lambda page: page.turn(pages))

    def action_begin(self) -> None:
        self._move(-1, lambda page: page.go_to(0))

    def _move(self, direction: int, how: Callable[[Page], Awaitable[None]]) -> None:
        """Going up pauses; whoever comes to the end by going down follows again."""

        async def move() -> None:
            self._following = self._following and direction > 0
            await how(self._page_now())
            seen = self._page.in_sight()
            if direction > 0 and self._page.is_at_end and seen[-1].offset == self._page.mark:
                self._following, self._new = True, 0

        self._act(move)

    def action_end(self) -> None:
        async def move() -> None:
            self._following = True
            await self._show_end()

        self._act(move)

    def action_follow(self) -> None:
        if self._following:
            self._following = False
            self._settle()
        else:
            self.action_end()

    def action_wrap(self) -> None:
        async def change() -> None:
            self._wrap, self._left = not self._wrap, 0
            self._said = "long lines are wrapped" if self._wrap else "long lines are cut"
            await self._show_more()

        self._act(change)

    def action_sideways(self, steps: int) -> None:
        """As far as there is something to see."""
        self._said = "long lines are wrapped: w cuts them" if self._wrap else ""
        if not self._wrap:
            widest = max((self._rows.of(line)[0].cell_length for line in self._page.in_sight()), default=0)
            beyond = max(0, widest - self.size.width + 1)
            most = max(self._left, beyond + -beyond % _SIDEWAYS)
            self._left = max(0, min(most, self._left + steps * _SIDEWAYS)) if steps else 0
        self._settle()

    def go_to_line(self, number: int) -> None:
        run, stage = self._where
        self._go_to_position(lambda agent: agent.log_position(run, stage, line=number))

    def go_to_time(self, at: str) -> None:
        run, stage = self._where
        self._go_to_position(lambda agent: agent.log_position(run, stage, at=at))

    def _go_to_position(self, question: Callable[[Client], LogPositionJSON]) -> None:
        async def move() -> None:
            await self._go_to((await self._ask(question))["offset"])

        self._act(move)

    # Searching

    def search(self, pattern: str) -> None:
        """Go to the next line in which it is found; "" forgets the last one."""

        async def search() -> None:
            self._look_for(pattern)
            await self._search(1)

        self._act(search)

    def _look_for(self, pattern: str, name: str | None = None) -> None:
        """Mark it in all lines. Raises UsageError."""
        self._searched = Search(pattern, name) if pattern else None
        self._rows.expression = self._searched and self._searched.expression
        self._rows.forget()

    def action_again(self, direction: int) -> None:
        if self._searched is None:
            self._said = "nothing was searched for: / does"
            self._settle()
        else:
            self._turns.take(self._told_anew(lambda: self._search(direction)))

    def action_first_error(self) -> None:
        """The first one; `n` goes on to the next."""

        async def search() -> None:
            self._look_for(ERRORS, "errors")
            await self._search(1, start=0)

        self._act(search)

    def stop_searching(self) -> bool:
        """Whether there was something to stop."""
        if not self._searcher.is_busy:
            return False
        self._turns.stop()
        return True

    async def _search(self, direction: int, *, start: int | None = None) -> None:
        search, page, backwards = self._searched, self._page, direction < 0
        if search is None:
            return
        at = page.mark + (not backwards) if start is None else start
        found = await self._searcher.find(search, at, backwards=backwards)
        if found is None and start is None:
            self._said = "on from the end" if backwards else "on from the beginning"
            found = await self._searcher.find(search, page.lines.size if backwards else 0, backwards=backwards)
        if found is None:
            self._said = "not found"
        else:
            await self._go_to(found)

    @property
    def filtered(self) -> str:
        return self._filter.search.pattern if self._filter else ""

    def filter(self, pattern: str) -> None:
        """Only lines in which it is found; "" shows all again, at the marked line."""

        async def change() -> None:
            page = self._page
            if pattern:
                self._look_for(pattern)
            if pattern and self._searched is not None:
                page.source = self._filter = Matching(self._searcher, self._searched, page.lines)
                page.window = []
                await self._show_end()
                return
            self._filter, page.source = None, page.lines
            if self._following:
                await self._show_end()
            else:
                await self._go_to(await page.lines.start_of(page.mark))

        self._act(change)

    def marked_line(self) -> str | None:
        """As people read it."""
        return next((plain_line(line.data) for line in self._page.window if line.offset == self._page.mark), None)

    def action_copy_line(self) -> None:
        line = self.marked_line()
        if line is not None:
            self._said = f"copied the line{self.home.copy(line)}"
            self._tell()
