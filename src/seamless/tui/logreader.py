"""A log of any size on the screen: only the lines in sight are there, and they are fetched as one comes to them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final, TypeVar

from textual.message import Message
from textual.worker import Worker

from seamless.errors import AgentUnreachableError, SeamlessError
from seamless.tui.coalesced import Coalesced
from seamless.tui.feed import on_loop
from seamless.tui.follower import Follower
from seamless.tui.logcanvas import LogCanvas
from seamless.tui.loglines import Rows, where
from seamless.tui.loglocator import Locator
from seamless.tui.logmatches import Matching
from seamless.tui.logpage import Page
from seamless.tui.logsearch import Search, Searcher
from seamless.tui.logsource import Lines
from seamless.tui.logturns import Turns, Work

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.tui.app import SeamlessApp

T = TypeVar("T")

_TICK_S: Final = 0.1


class LogReader(LogCanvas):
    """What of a log is read, and shown of it, as the log grows; `LogView` has the keys."""

    class Moved(Message):
        """Something of what `describe` tells has changed."""

    def __init__(self, *, wrap: bool) -> None:
        super().__init__(Rows())
        self._wrap = wrap
        self.run: str | None = None
        self.stage: str | None = None
        self._live = False
        self._following = True
        self._new = 0
        self._said = ""
        self._searched: Search | None = None
        self._filter: Matching | None = None
        self._filling = False
        self._follower: Follower | None = None
        self._turns = Turns(self._start, self._done)
        self._read("", "")
        self._growth = Coalesced(self, _TICK_S, lambda: self._turns.take_along(self._take_growth))

    def _start(self, turn: Callable[[], Coroutine[None, None, None]]) -> Worker[None]:
        return self.run_worker(turn)

    @property
    def home(self) -> SeamlessApp:
        return self.app  # type: ignore[return-value]  # the only one there is

    async def _ask(self, question: Callable[[Client], T]) -> T:
        return await self.home.ask(question)

    # What is shown

    def _read(self, run: str, stage: str) -> None:
        self._page = Page(Lines(self._ask, run, stage), self._rows)
        self._searcher = Searcher(self._ask, run, stage, lambda: self._turns.is_enough, self._tell)
        self._locator = Locator(self, self._ask, run, stage, self._tell)

    def open(self, run: str, stage: str, *, live: bool) -> None:
        """Another log, at its end. `live`: its stage has not ended."""
        self.close()
        self.run, self.stage, self._live = run, stage, live
        self._read(run, stage)
        self._filter = None
        self._following, self._filling, self._new, self._left, self._said = True, False, 0, 0, ""
        self._rows.forget()
        self.refresh()
        self._turns.begin_anew()
        self._turns.take_along(self._begin_reading)

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def on_unmount(self) -> None:
        self.close()

    def load_again(self) -> None:
        if self.stage is not None and (not self._page.window or self._follower is None):
            self._turns.take_along(self._begin_reading)

    def ended(self) -> None:
        """The stage has."""
        self._live = False
        self._tell()

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

    def _act(self, work: Work) -> None:
        """What the user asks for now: what takes long of all that was asked for before is not waited for."""
        self._turns.take_instead(self._told_anew(work))

    def _told_anew(self, work: Work) -> Work:
        async def told_anew() -> None:
            self._said = ""
            await work()

        return told_anew

    def _done(self, wrong: SeamlessError | None) -> None:
        """A turn is."""
        if wrong is not None and not isinstance(wrong, AgentUnreachableError):  # of that the banner tells
            self._said = wrong.message
        self._settle()

    def _settle(self) -> None:
        self.refresh()
        self._tell()
        if self._page.window:
            self._locator.look_for(self._page.mark)

    def _tell(self) -> None:
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
        if self._searcher.progress:
            parts.append(f"{self._searcher.progress}; esc stops")
        elif self._said:
            parts.append(self._said)
        seen = self._page.in_sight()
        end = seen[-1].next if seen else 0
        position = self._locator.position_of(self._page.mark) if seen and not self._searcher.progress else None
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
            return
        self._new += lines
        if not self._page.is_full:
            await self._show_more()

    def _page_now(self) -> Page:
        """The page, as large as the screen is now."""
        self._page.height = max(1, self.size.height)
        width = max(1, self.size.width - 1) if self._wrap else None
        if width != self._rows.width:
            self._rows.width = width
            self._rows.forget()
            self._page.top_row = 0
        return self._page

    async def _show_more(self) -> None:
        """As much as there is now, from the same place on."""
        page = self._page_now()
        if self._following or (self._filter and not page.is_full):
            await self._show_end(mark=self._following)
        else:
            await page.show_from(*page.place)

    async def _show_end(self, *, mark: bool = True) -> None:
        page, matching = self._page_now(), self._filter
        if matching is None:
            await page.show_end(mark=mark)
        else:
            await matching.catch_up()
            page.end_with(matching.last(page.height), mark=mark)
            self._fill_soon()
        if self._following:
            self._new = 0

    def _fill_soon(self) -> None:
        """Have the filter look further back, if the page has room for more lines."""
        matching = self._filter
        if matching is None or self._filling:
            return
        is_wanted = not matching.is_complete and not self._page.is_full
        if is_wanted and not self._turns.is_stopped:
            self._filling = True
            self._turns.take_along(self._fill)
            return
        if is_wanted and self._searcher.progress:
            self._said = f"stopped, {self._searcher.progress}"
        self._searcher.tell("")

    async def _fill(self) -> None:
        """For a moment: each key has its turn between two of these."""
        self._filling = False
        if self._filter is None:
            self._searcher.tell("")
            return
        if not self._turns.is_stopped:
            await self._filter.look_back()
        await self._show_end(mark=not self._page.window)

    async def _go_to(self, offset: int) -> None:
        self._following = False
        await self._page_now().go_to(offset)

    def on_resize(self) -> None:
        if self.stage is not None:
            self._turns.take_along(self._show_more)

    @property
    def nothing(self) -> str:
        if self._filter:
            return "no line matches" if self._filter.is_complete else "no line that matches was found so far"
        return "nothing was written yet" if self._live else "no output"
