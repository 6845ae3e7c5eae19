"""A log of any size on the screen: only the lines in sight are there, and they are fetched as one comes to them.

One thing is done at a time, in the order of the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from textual.binding import BindingType
from textual.message import Message

from seamless.errors import AgentUnreachableError, SeamlessError
from seamless.tui.coalesced import Coalesced
from seamless.tui.feed import on_loop
from seamless.tui.follower import Follower
from seamless.tui.logcanvas import LogCanvas
from seamless.tui.logkeys import KEYS
from seamless.tui.loglines import Rows, plain_line, where
from seamless.tui.logmatches import Matching
from seamless.tui.logpage import Page
from seamless.tui.logsearch import ERRORS, Search
from seamless.tui.logsource import Lines

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.tui.app import SeamlessApp
    from seamless.wire_logs import LogPositionJSON

T = TypeVar("T")

_TICK_S: Final = 0.1
_REST_S: Final = 0.15  # of the keys, before the agent is asked which line this is
_SIDEWAYS: Final = 8


class LogView(LogCanvas):
    DEFAULT_CSS = "LogView { height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = KEYS

    class Moved(Message):
        """Something of what `describe` tells has changed."""

    def __init__(self, *, wrap: bool) -> None:
        super().__init__(Rows())
        self._wrap = wrap
        self._busy = asyncio.Lock()
        self._page = Page(Lines(self._ask, "", ""), self._rows)
        self._filter: Matching | None = None
        self._follower: Follower | None = None
        self.run: str | None = None
        self.stage: str | None = None
        self._live = False
        self._following = True
        self._new = 0
        self._searched: Search | None = None
        self._searching = False
        self._said = ""
        self._position: LogPositionJSON | None = None
        self._located = -1  # the mark that it is the position of
        self._locating = Coalesced(self, _REST_S, self._locate_soon)
        self._growth = Coalesced(self, _TICK_S, lambda: self._do(self._take_growth))

    @property
    def home(self) -> SeamlessApp:
        return self.app  # type: ignore[return-value]  # the only one there is

    # What is shown

    def open(self, run: str, stage: str, *, live: bool) -> None:
        """Another log, at its end. `live`: its stage has not ended."""
        self.close()
        self.run, self.stage, self._live = run, stage, live
        self._page = Page(Lines(self._ask, run, stage), self._rows)
        self._filter = self._position = None
        self._following, self._new, self._left, self._said = True, 0, 0, ""
        self._rows.forget()
        self.refresh()
        self._do(self._begin_reading)

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def on_unmount(self) -> None:
        self.close()

    def load_again(self) -> None:
        if self.stage is not None and (not self._page.window or self._follower is None):
            self._do(self._begin_reading)

    def ended(self) -> None:
        """The stage has."""
        self._live = False
        self.post_message(self.Moved())

    async def _begin_reading(self) -> None:
        run, stage = self._where
        lines = self._page.lines
        lines.grow(await self._ask(lambda agent: agent.log_size(run, stage)))
        if self._live and self._follower is None:
            wake = on_loop(self._grow)
            self._follower = Follower(self.home.socket, run, stage, lines.size, wake)
        if self._following:
            await self._show_end()

    @property
    def _where(self) -> tuple[str, str]:
        assert self.run is not None
        assert self.stage is not None
        return self.run, self.stage

    async def _ask(self, question: Callable[[Client], T]) -> T:
        return await self.home.ask(question)

    def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        """One after the other."""
        stage = self.run, self.stage

        async def turn() -> None:
            async with self._busy:
                if stage != (self.run, self.stage):
                    return  # another log is shown by now
                try:
                    await work()
                except AgentUnreachableError:
                    pass  # the banner tells, and what is shown stays
                except SeamlessError as error:
                    self._said = error.message
                self._settle()

        self.run_worker(turn(), exit_on_error=True)

    def _do_instead(self, move: Callable[[], Awaitable[None]]) -> None:
        """Whoever goes elsewhere does not wait for what a search may find."""
        self.stop_searching()
        self._do(move)

    def _settle(self) -> None:
        self.refresh()
        self.post_message(self.Moved())
        self._locating.put_off()

    def _locate_soon(self) -> None:
        self.run_worker(self._locate(), exclusive=True, group="locate")

    async def _locate(self) -> None:
        if not self._page.window:
            return
        run, stage = self._where
        mark = self._page.mark
        try:
            found = await self._ask(lambda agent: agent.log_position(run, stage, offset=mark))
        except SeamlessError:
            return
        if mark == self._page.mark and (run, stage) == (self.run, self.stage):
            self._position, self._located = found, mark
            self.post_message(self.Moved())

    def describe(self) -> tuple[str, str]:
        """(what is shown, where in it)"""
        parts = []
        if self._filter is not None:
            parts.append(f"&{self._filter.search.name}")
        elif self._searched is not None:
            parts.append(f"/{self._searched.name}")
        if self._live:
            parts.append("following" if self._following else f"paused  +{self._new} new" if self._new else "paused")
        if self._said:
            parts.append(self._said)
        position = self._position if self._located == self._page.mark else None
        seen = self._page.in_sight()
        end = seen[-1].next if seen else 0
        return "  ".join(parts), where(position, end, self._page.lines.size, self._left)

    # Growing

    def _grow(self) -> None:
        """At most ten times a second."""
        if self.is_mounted:
            self._growth.ask()

    async def _take_growth(self) -> None:
        """The follower tells of more only when this was taken: however fast a log grows, a key waits for this turn and
        the next at most."""
        if self._follower is None:
            return
        size, lines = self._follower.take()
        self._page.lines.grow(size)
        if self._following:
            await self._show_end()
        else:
            self._new += lines
            if not self._page.is_full:
                await self._page_now().show_from(*self._page.place)

    def _page_now(self) -> Page:
        """The page, as large as the screen is now."""
        self._page.height = max(1, self.size.height)
        width = max(1, self.size.width - 1) if self._wrap else None
        if width != self._rows.width:
            self._rows.width = width
            self._rows.forget()
        return self._page

    async def _show_end(self) -> None:
        await self._page_now().show_end()
        self._new = 0

    async def _go_to(self, offset: int) -> None:
        self._following = False
        await self._page_now().go_to(offset)

    # Keys

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

        self._do_instead(move)

    def action_end(self) -> None:
        async def move() -> None:
            self._following = True
            await self._show_end()

        self._do_instead(move)

    def action_follow(self) -> None:
        if self._following:
            self._following = False
            self._settle()
        else:
            self.action_end()

    def action_wrap(self) -> None:
        async def change() -> None:
            self._wrap, self._left = not self._wrap, 0
            await self._fit()

        self._said = "long lines are cut" if self._wrap else "long lines are wrapped"
        self._do(change)

    def action_sideways(self, steps: int) -> None:
        if self._wrap:
            return
        self._left = max(0, self._left + steps * _SIDEWAYS) if steps else 0
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

        self._do_instead(move)

    # Searching

    def search(self, pattern: str) -> None:
        """Go to the next line in which it is found; "" forgets the last one."""
        if self._look_for(pattern):
            self._do(lambda: self._search(1, None))

    def _look_for(self, pattern: str, name: str | None = None) -> bool:
        """Mark it in all lines; False when there is nothing to look for."""
        self._said = ""
        try:
            self._searched = Search(pattern, name) if pattern else None
        except SeamlessError as error:
            self._said = error.message
            self._settle()
            return False
        self._rows.expression = self._searched and self._searched.expression
        self._rows.forget()
        self._settle()
        return self._searched is not None

    def action_again(self, direction: int) -> None:
        if self._searched is None:
            self._said = "nothing was searched for: / does"
            self._settle()
        else:
            self._do(lambda: self._search(direction, None))

    def action_first_error(self) -> None:
        """The first one; `n` goes on to the next."""
        if self._look_for(ERRORS, "errors"):
            self._do(lambda: self._search(1, 0))

    def stop_searching(self) -> bool:
        """Whether there was something to stop."""
        if self._searched is None or not self._searching:
            return False
        self._searched.stop()
        return True

    async def _search(self, direction: int, start: int | None) -> None:
        search, page, backwards = self._searched, self._page, direction < 0
        if search is None:
            return
        self._following = False
        self._searching = True
        try:
            at = page.mark + (not backwards) if start is None else start
            found = await self._find(search, at, backwards)
            self._said = ""
            if found is None and not search.is_stopped and start is None:
                found = await self._find(search, page.lines.size if backwards else 0, backwards)
                self._said = "on from the end" if backwards else "on from the beginning"
        finally:
            self._searching = False
        if found is None:
            self._said = "stopped" if search.is_stopped else "not found"
        else:
            await self._go_to(found)

    async def _find(self, search: Search, start: int, backwards: bool) -> int | None:
        def tell(progress: str) -> None:
            self._said = progress
            self.post_message(self.Moved())

        return await search.find(self._ask, *self._where, start, backwards=backwards, on_progress=tell)

    @property
    def filtered(self) -> str:
        return self._filter.search.pattern if self._filter else ""

    def filter(self, pattern: str) -> None:
        """Only lines in which it is found; "" shows all again, at the marked line."""
        if pattern and not self._look_for(pattern):
            return
        search = self._searched if pattern else None

        async def change() -> None:
            page = self._page
            if search is not None:
                page.source = self._filter = Matching(self._ask, page.lines, *self._where, search)
                await self._show_end()
                return
            self._filter, page.source = None, page.lines
            if self._following:
                await self._show_end()
            else:
                await self._go_to(await page.lines.start_of(page.mark))

        self._do(change)

    def marked_line(self) -> str | None:
        """As people read it."""
        return next((plain_line(line.data) for line in self._page.window if line.offset == self._page.mark), None)

    def action_copy_line(self) -> None:
        line = self.marked_line()
        if line is not None:
            self._said = f"copied the line{self.home.copy(line)}"
            self.post_message(self.Moved())

    # Drawing

    def on_resize(self) -> None:
        if self.stage is not None:
            self._do(self._fit)

    async def _fit(self) -> None:
        if self._following:
            await self._show_end()
        else:
            await self._page_now().show_from(self._page.place[0])

    @property
    def nothing(self) -> str:
        if self._filter:
            return "no line matches"
        return "nothing was written yet" if self._live else "no output"
