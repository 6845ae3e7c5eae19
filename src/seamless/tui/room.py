"""What every screen is made of: a title, what is wrong, its own body, a prompt, the keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Label

from seamless.errors import SeamlessError
from seamless.logtext import plain
from seamless.rendering.formats import age
from seamless.tui.bars import Banner, KeyBar, TitleBar

if TYPE_CHECKING:
    from seamless.tui.app import SeamlessApp
    from seamless.wire import EventJSON


class Prompt(Horizontal):
    """A line to type in, at the bottom; `ask` shows it, Enter or Escape hide it."""

    DEFAULT_CSS = """
    Prompt { height: 1; display: none; }
    Prompt Label { padding: 0 1; text-style: bold; }
    Prompt Input { border: none; height: 1; width: 1fr; padding: 0; background: $background; }
    Prompt Input:focus { border: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("ctrl+c", "leave", "Leave", show=False, priority=True),  # the field would copy by it
    ]

    def __init__(self) -> None:
        super().__init__()
        self._done: Callable[[str], None] | None = None
        self._changed: Callable[[str], None] | None = None
        self._back_to: Widget | None = None
        self._before = ""

    def compose(self) -> ComposeResult:
        yield Label("", markup=False)
        yield Input(compact=True, select_on_focus=False)

    def ask(
        self,
        label: str,
        done: Callable[[str], None],
        *,
        value: str = "",
        changed: Callable[[str], None] | None = None,
    ) -> None:
        """`changed` is told of every key; on Escape once more, of what there was before."""
        self._done, self._changed, self._before = done, changed, value
        if not self.display:  # else it is the field itself, by a key that it does not take for text
            self._back_to = self.screen.focused
        self.query_one(Label).update(Text(label))
        field = self.query_one(Input)
        self.display = True
        field.value = value
        field.cursor_position = len(value)
        self.screen.set_focus(field)  # now: `focus` would only ask for it, and what is typed meanwhile be lost

    def _hide(self) -> None:
        self.display = False
        self._changed = None
        if self._back_to is not None:
            self._back_to.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display and self._changed is not None:
            self._changed(event.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        done, self._done = self._done, None
        self._hide()
        if done is not None:
            done(event.value)

    def action_leave(self) -> None:
        changed = self._changed
        self._hide()
        if changed is not None:
            changed(self._before)


class Room(Screen[None]):
    """A screen below the others: `take_event` when something happened, `tick` each second, `load` when the agent is
    back, and before the first time it is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="back"),
        Binding("Y", "copy_command", "Copy command", show=False, id="copy_command"),
        Binding("ctrl+l", "load", "Load again", show=False, id="load"),
    ]
    command = "seamless status"
    """The command that shows the same."""

    @property
    def home(self) -> SeamlessApp:
        return cast("SeamlessApp", self.app)

    def compose(self) -> ComposeResult:
        yield TitleBar()
        yield Banner()
        yield from self.body()
        yield Prompt()
        yield KeyBar()

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.action_load()

    def on_screen_resume(self) -> None:
        self.tick()

    def action_load(self) -> None:
        """Ask the agent again for all that is shown."""

    def take_event(self, event: EventJSON) -> None:
        """Something happened."""

    def tick(self) -> None:
        """A second has passed, or something was learnt."""
        self.show_trouble()

    foremost: str | None = None
    """The action that the user is waited for to do, if there is one."""

    def is_apt(self, action: str) -> bool:
        """Whether the key bar has the action now; its key works all the same, and then the agent says what is wrong."""
        return True

    def show_trouble(self) -> None:
        home = self.home
        text: Text | None = None
        if home.lost is not None:
            gone = age(time.monotonic() - home.lost_since)
            text = Text(f"! {plain(home.lost.message)} (for {gone}); trying again.")
            if home.lost.hint:
                text.append(f" {plain(home.lost.hint)}")
        elif home.config_error:
            text = Text(f"! The configuration's newest content is not in force: {plain(home.config_error)}")
        self.query_one(Banner).show(text)

    def say(self, message: str) -> None:
        self.app.clear_notifications()  # the newest word counts
        self.notify(plain(message), timeout=6, markup=False)

    def complain(self, error: SeamlessError) -> None:
        words = plain(error.message) + (f". {plain(error.hint)}" if error.hint else "")
        self.app.clear_notifications()
        self.notify(words, severity="error", timeout=12, markup=False)

    def copy(self, text: str, what: str) -> None:
        where = self.home.copy(text)
        self.say(f"copied {what}{where}")

    def action_copy_command(self) -> None:
        self.copy(self.command, self.command)

    def action_leave(self) -> None:
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()
