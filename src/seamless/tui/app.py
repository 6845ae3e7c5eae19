"""The Textual program: what its screens share.

The agent's answers are asked for in threads; its events come by `Feed`.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from textual import work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor
from textual.theme import Theme
from textual.timer import Timer, TimerCallback

from seamless.errors import SeamlessError
from seamless.logtext import glyphs, plain
from seamless.paths import state_dir
from seamless.rendering.runs import Viewer
from seamless.tui.feed import Feed, Lost, Standing, on_loop
from seamless.tui.fleet import FleetRoom
from seamless.tui.guide import Commands, guide
from seamless.tui.output import EncodableOnly, lacks_unicode
from seamless.tui.room import Room
from seamless.tui.settings import DEFAULT_THEME, Settings

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import ServiceStatusJSON

T = TypeVar("T")

_COALESCE_S: Final = 0.03  # events that come together are one question to the agent
_PROBLEMS: Final = 8  # of the settings, told at once
_CLIPBOARD: Final = 64 * 1024  # bytes that terminals take by OSC 52

TERMINAL_THEME: Final = Theme(
    name=DEFAULT_THEME,
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_cyan",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "screen-selection-background": "ansi_bright_blue",
        "screen-selection-foreground": "ansi_black",
        "block-cursor-foreground": "ansi_default",
        "block-cursor-background": "ansi_default",
        "block-cursor-text-style": "reverse",
        "input-cursor-foreground": "ansi_default",
        "input-cursor-background": "ansi_default",
        "input-cursor-text-style": "reverse",
        "input-selection-background": "ansi_default",
        "input-selection-foreground": "ansi_default",
        "border-blurred": "ansi_default",
    },
)
"""The terminal's own colours: right on dark and on light ones."""


class SeamlessApp(App[None]):
    TITLE = "Seamless"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar = {Commands}
    CSS = """
    Toast { max-width: 100%; width: 72; background: $background; border: round $primary; padding: 0 1; }
    Toast.-error { border: round $error; }
    CommandPalette > Vertical { max-height: 80%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", id="help"),
        Binding("q", "quit", "Quit", id="quit"),
        Binding("E", "events", "Events", id="events"),
        Binding("ctrl+c", "quit", "Quit", show=False, id="quit_too"),
    ]

    def __init__(self, socket: Path, user: str, settings: Settings, *, encoding: str | None = "utf-8") -> None:
        super().__init__()
        self.socket = socket
        self.settings = settings
        self.lost: SeamlessError | None = None
        self.lost_since = 0.0
        self.agent_version: str | None = None
        self.config_error: str | None = None
        self.fleet: dict[str, ServiceStatusJSON] = {}
        self.fleet_known = False
        self._user = user
        self._glyphs = glyphs(encoding)
        self._filter = EncodableOnly(encoding or "ascii") if lacks_unicode(encoding) else None
        self._client: Client | None = None
        self._client_lock = threading.Lock()
        self._dirty: set[str] = set()
        self._all_dirty = False
        self._changed = asyncio.Event()
        self._feed: Feed | None = None
        self.register_theme(TERMINAL_THEME)
        self.ansi_color = None
        if settings.theme not in self.available_themes:
            near = difflib.get_close_matches(settings.theme, self.available_themes, 1)
            found = f"; did you mean {near[0]}?" if near else "; ctrl+p lists them"
            settings.problems.append(f"there is no theme {settings.theme!r}{found}")
            settings.theme = DEFAULT_THEME
        self.theme = DEFAULT_THEME if self.no_color else settings.theme

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = [NoColor()] if self.no_color else super().get_line_filters()
        return filters if self._filter is None else [*filters, self._filter]

    # The agent

    def client(self) -> Client:
        """Made at the first question, in that question's thread: the library takes a while to load."""
        with self._client_lock:
            if self._client is None:
                from seamless.client import Client

                self._client = Client(self.socket)
            return self._client

    async def ask(self, question: Callable[[Client], T]) -> T:
        """The agent's answer. Raises what the client raises."""
        return await asyncio.to_thread(lambda: question(self.client()))

    def viewer(self) -> Viewer:
        return Viewer(self._user, datetime.now(UTC), self._glyphs)

    def on_mount(self) -> None:
        problems = list(self.settings.problems)
        if self.settings.keys:
            from seamless.tui.keymap import checked

            keymap, wrong = checked(self.settings.keys, SeamlessApp)
            self.set_keymap(keymap)
            problems += [f"[keys] {one}" for one in wrong]
        self.push_screen(FleetRoom())
        if problems:
            told = [plain(problem) for problem in problems[:_PROBLEMS]] + ["…"] * (len(problems) > _PROBLEMS)
            title = str(self.settings.file)
            self.notify("\n".join(told), title=title, severity="warning", timeout=20, markup=False)
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        self.set_interval(1.0, self._tick)
        self._feed = Feed(self.socket, on_loop(self._take_news))
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint."""
        assert self._feed is not None
        self._feed.start()
        self._keep_fleet()

    def set_timer(
        self, delay: float, callback: TimerCallback | None = None, *, name: str | None = None, pause: bool = False
    ) -> Timer:
        """The one that fires late rather than never: Textual waits with a new size of the terminal for 8 ms, and
        forgets that size and all later ones when it is kept from the processor meanwhile (see `Coalesced`)."""
        timer = super().set_timer(delay, callback, name=name, pause=pause)
        timer._skip = False
        return timer

    async def on_unmount(self) -> None:
        if self._feed is not None:
            self._feed.close()
        if self._client is not None:
            self._client.close()

    def rooms(self) -> list[Room]:
        """From the first one opened to the one in front; none while the program ends and takes them down."""
        return [screen for screen in self.screen_stack if isinstance(screen, Room)] if self.is_running else []

    def _tick(self) -> None:
        rooms = self.rooms()
        if rooms and rooms[-1].is_mounted:
            rooms[-1].tick()

    def _take_news(self) -> None:
        assert self._feed is not None
        for news in self._feed.take():
            match news:
                case Lost(error):
                    self.lost_since = time.monotonic() if self.lost is None else self.lost_since
                    self.lost = error
                    self._tick()
                case Standing():
                    self.lost = None
                    self._all_dirty = True
                    for room in self.rooms():
                        if room.is_mounted:
                            room.action_load()
                    self._tick()
                case event:
                    if event["kind"] == "config" or (event["service"] and event["service"] not in self.fleet):
                        self._all_dirty = True
                    elif event["service"]:
                        self._dirty.add(event["service"])
                    for room in self.rooms():
                        if room.is_mounted:
                            room.take_event(event)
        self._changed.set()

    @work(name="fleet")
    async def _keep_fleet(self) -> None:
        """Asks for what has changed, service by service, and for all of it when the stream stands anew."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_COALESCE_S)
            self._changed.clear()
            everything, services = self._all_dirty, self._dirty
            self._all_dirty, self._dirty = False, set()
            if not everything and not services:
                continue
            try:
                if everything:
                    version = await self.ask(lambda agent: agent.version())
                    self.agent_version, self.config_error = version["version"], version["config_error"]
                    found = await self.ask(lambda agent: agent.status())
                    self.fleet = {one["service"]: one for one in found}
                    self.fleet_known = True
                for name in sorted(services - (set(self.fleet) if everything else set())):
                    self.fleet |= {one["service"]: one for one in await self._status_of(name)}
            except SeamlessError:  # the feed tells that nobody answers, and when somebody does again
                self._all_dirty = True
            self._tick()

    async def _status_of(self, service: str) -> list[ServiceStatusJSON]:
        return await self.ask(lambda agent: agent.status(service))

    def _fatal_error(self) -> None:
        """Of an error that nobody foresaw the terminal is spared the traceback: `program.run` raises it."""
        self._close_messages_no_wait()

    # What all screens can do

    def copy(self, text: str) -> str:
        """To the clipboard, by the terminal, and to a file for terminals that have none; says where that is."""
        file = state_dir() / "copied.txt"
        where = f"; also in {file}"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as target:
                target.write(text + "\n")
        except OSError:
            where = ""
        if len(base64.b64encode(text.encode())) <= _CLIPBOARD:
            self.copy_to_clipboard(text)
        return where

    def run_command(self, *arguments: str) -> None:
        """A command of the CLI in this terminal, in place of the screen until it ends."""
        command = [sys.executable, "-m", "seamless", "--socket", str(self.socket), *arguments]
        with self.suspend():
            print(f"$ seamless {' '.join(arguments)}", flush=True)
            code = subprocess.run(command, check=False).returncode
            print(f"(ended with {code}; Enter goes back)", flush=True)
            with suppress(EOFError, KeyboardInterrupt):
                input()
        self.refresh()

    def action_help(self) -> None:
        self.push_screen(guide(self))

    def action_events(self) -> None:
        from seamless.tui.history import HistoryRoom

        if not isinstance(self.screen, HistoryRoom):
            self.push_screen(HistoryRoom())

    def _keep_theme(self, theme: Theme) -> None:
        if self.no_color or theme.name == self.settings.theme:
            return
        try:
            self.settings.keep(theme=theme.name)
        except SeamlessError as error:
            self.notify(error.message, severity="error", markup=False)
