"""Questions in front of a screen. What destroys or deploys is asked for, with Cancel in focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

_KEYS: Final = "tab next  enter choose  esc leave"


@dataclass(frozen=True, slots=True)
class Question:
    """`typed`: what must be typed before it can be done. `word`: asks for words, with this label. `choices`: boxes to
    tick, name -> label."""

    title: str
    lines: Sequence[Text] = ()
    do: str = "Yes"
    leave: str = "Cancel"
    other: str | None = None  # a second way to answer
    typed: str | None = None
    word: str | None = None
    word_needed: bool = False
    choices: dict[str, str] = field(default_factory=dict)


class Tick(Static, can_focus=True):
    """A box that is ticked or not, told by more than colour."""

    DEFAULT_CSS = "Tick { height: auto; } Tick:focus { text-style: reverse; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space,enter", "tick", "Tick", show=False)]

    def __init__(self, name: str, label: str) -> None:
        super().__init__(id=name, markup=False)
        self._label = label
        self.ticked = False

    def render(self) -> Text:
        return Text(f"[{'x' if self.ticked else ' '}] {self._label}")

    def action_tick(self) -> None:
        self.ticked = not self.ticked
        self.refresh()

    def on_click(self) -> None:
        self.action_tick()


@dataclass(frozen=True, slots=True)
class Answer:
    button: str  # "do" or "other"
    word: str = ""
    ticked: frozenset[str] = frozenset()


class Dialog(ModalScreen[Answer | None]):
    """Returns None when it is left."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 0%; }
    Dialog > Vertical { width: 90%; max-width: 100; height: auto; max-height: 100%; margin: 1 0; border: round $primary;
        background: $background; padding: 0 1; }
    Dialog Label { width: 100%; }
    Dialog .title { dock: top; text-style: bold; }
    Dialog .answers { dock: bottom; height: auto; }
    Dialog VerticalScroll { height: auto; max-height: 100%; }  /* what title and answers leave of the most */
    Dialog Input { border: none; height: 1; padding: 0; background: $background; text-style: underline; }
    Dialog Input:focus { border: none; }
    Dialog Horizontal { height: 1; align-horizontal: right; margin-top: 1; }
    Dialog Button { margin-left: 2; height: 1; border: none !important; min-width: 8; background: $background;
        color: $foreground; text-style: none; }
    Dialog Button:focus { text-style: bold reverse; border: none; background: $background; color: $foreground; }
    Dialog Button:disabled, Dialog Button:ansi.-style-default:disabled { text-style: dim; border: none !important;
        background: $background; }
    Dialog Button:hover { border: none; background: $background; color: $foreground; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="dialog_cancel"),
        Binding("ctrl+c", "dismiss(None)", "Cancel", show=False, priority=True),  # a field would copy by it
        Binding("right,down", "app.focus_next", "Next", show=False),
        Binding("left,up", "app.focus_previous", "Previous", show=False),
        Binding("ctrl+d,pagedown,j", "read_on(1)", "Read on", show=False, id="dialog_down"),
        Binding("ctrl+u,pageup,k", "read_on(-1)", "Read back", show=False, id="dialog_up"),
    ]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        asked = self._question
        with Vertical() as box:
            box.border_subtitle = _KEYS
            yield Label(Text(asked.title), classes="title")
            with VerticalScroll(can_focus=False):
                yield Static(Text("\n").join(asked.lines))
            with Vertical(classes="answers"):
                if asked.typed is not None:
                    yield Label(Text(f'Type "{asked.typed}" to go on:'))
                if asked.word is not None:
                    yield Label(Text(asked.word))
                if asked.typed is not None or asked.word is not None:
                    yield Input(compact=True)
                for name, label in asked.choices.items():
                    yield Tick(name, label)
                with Horizontal():
                    yield Button(Text(f" {asked.leave} "), id="leave", compact=True)
                    if asked.other is not None:
                        yield Button(Text(f" {asked.other} "), id="other", compact=True)
                    yield Button(Text(f" {asked.do} "), id="do", compact=True, disabled=not self._complete(""))

    def on_mount(self) -> None:
        asked = self._question
        if asked.typed is not None or asked.word is not None:
            self.query_one(Input).focus()
        else:
            self.query_one("#leave", Button).focus()

    def on_resize(self) -> None:
        self.call_after_refresh(self._offer_reading)

    def _offer_reading(self) -> None:
        """The keys that scroll, where there is something to."""
        more = _more(self.query_one(VerticalScroll))
        self.query_one("Dialog > Vertical", Vertical).border_subtitle = f"{more}{_KEYS}"

    def action_read_on(self, pages: int) -> None:
        text = self.query_one(VerticalScroll)
        text.scroll_relative(y=pages * max(1, text.size.height - 1), animate=False)

    def _complete(self, text: str) -> bool:
        asked = self._question
        if asked.typed is not None:
            return text.strip() == asked.typed
        return bool(text.strip()) or not asked.word_needed

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one("#do", Button).disabled = not self._complete(event.value)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        """On to the buttons: nothing is done by the key that ends the typing."""
        self.query_one("#leave", Button).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "leave":
            self.dismiss(None)
            return
        words = [field.value.strip() for field in self.query(Input)]
        ticked = frozenset(str(box.id) for box in self.query(Tick) if box.ticked)
        self.dismiss(Answer(str(event.button.id), words[0] if words else "", ticked))


def _more(text: VerticalScroll) -> str:
    return "pgdn more  " if text.max_scroll_y else ""


class Pages(ModalScreen[None]):
    """Text to read and leave again."""

    DEFAULT_CSS = """
    Pages { align: center middle; background: $background 0%; }
    Pages > VerticalScroll { width: 96%; height: 90%; border: round $primary; background: $background; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark,ctrl+c", "dismiss", "Back", id="page_back"),
        Binding("j,down", "by(1)", "Down", show=False),
        Binding("k,up", "by(-1)", "Up", show=False),
        Binding("ctrl+d,pagedown,space", "by(10)", "Page down", show=False),
        Binding("ctrl+u,pageup", "by(-10)", "Page up", show=False),
        Binding("g,home", "by(-100000)", "First", show=False),
        Binding("G,end", "by(100000)", "Last", show=False),
    ]

    def __init__(self, title: str, text: Text) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = Text(self._title).markup
            box.border_subtitle = "esc back"
            yield Static(self._text)

    def on_resize(self) -> None:
        self.call_after_refresh(self._offer_reading)

    def _offer_reading(self) -> None:
        box = self.query_one(VerticalScroll)
        box.border_subtitle = f"{_more(box)}esc back"

    def action_by(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
