"""The lines at the screen's edges: what is shown, what is wrong, which keys there are."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.binding import ActiveBinding, Binding
from textual.widget import Widget

_GAP: Final = "  "
_ALWAYS: Final = ("leave", "help", "quit")
_NAMES: Final = {
    "question_mark": "?",
    "slash": "/",
    "escape": "esc",
    "ampersand": "&",
    "colon": ":",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


def key_name(key: str) -> str:
    """How a key is called: `?`, `ctrl+p`, `enter`."""
    return _NAMES.get(key, key)


class TitleBar(Widget):
    """One line: the left part gives way to the right one."""

    DEFAULT_CSS = "TitleBar { height: 1; text-style: reverse; }"

    def __init__(self) -> None:
        super().__init__()
        self._left = self._right = Text()

    def show(self, left: Text, right: Text | str = "") -> None:
        right = Text(right) if isinstance(right, str) else right
        if (left, right) != (self._left, self._right) or left.spans != self._left.spans:
            self._left, self._right = left, right
            self.refresh()

    def render(self) -> Text:
        width = self.size.width
        right = self._right.copy() if self._right.cell_len + 12 <= width else Text()
        line = Text(" ", no_wrap=True).append_text(self._left)
        line.truncate(max(0, width - right.cell_len - 2), overflow="ellipsis", pad=True)
        return line.append(" ").append_text(right).append(" ")


class Banner(Widget):
    """What is wrong; takes no room when nothing is."""

    DEFAULT_CSS = "Banner { height: auto; display: none; color: $error; text-style: bold reverse; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._text = Text()

    def show(self, text: Text | None) -> None:
        if text is not None and text != self._text:
            self._text = text
            self.refresh(layout=True)
        self.display = text is not None

    def render(self) -> Text:
        return self._text


class KeyBar(Widget):
    """The keys of the focused place, as many as fit."""

    DEFAULT_CSS = "KeyBar { height: 1; }"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def _is_apt(self, action: str) -> bool:
        judge = getattr(self.screen, "is_apt", None)  # dialogs have none
        return judge is None or bool(judge(action))

    def _rank(self, active: ActiveBinding) -> int:
        """What is waited for first, then the keys of the focused widget, those that this screen alone has, and the
        others."""
        if active.binding.action == getattr(self.screen, "foremost", None):
            return -1
        own = {binding.action for binding in type(self.screen).BINDINGS if isinstance(binding, Binding)}
        return 0 if active.node is self.screen.focused else 1 if active.binding.action in own else 2

    def render(self) -> Text:
        hints: dict[str, tuple[str, str]] = {}
        for key, active in sorted(self.screen.active_bindings.items(), key=lambda one: self._rank(one[1])):
            binding = active.binding
            if binding.show and active.enabled and binding.action not in hints and self._is_apt(binding.action):
                hints[binding.action] = (key_name(key), binding.description)
        last = [hint for action, hint in hints.items() if action in _ALWAYS]
        room = self.size.width - 1 - sum(_width(hint) for hint in last)
        line = Text(" ", no_wrap=True)
        for action, hint in hints.items():
            if action not in _ALWAYS and _width(hint) <= room:
                room -= _width(hint)
                _append(line, hint)
        for hint in last:
            _append(line, hint)
        return line


def _width(hint: tuple[str, str]) -> int:
    return len(hint[0]) + 1 + len(hint[1]) + len(_GAP)


def _append(line: Text, hint: tuple[str, str]) -> None:
    line.append(hint[0], "bold cyan").append(f" {hint[1].lower()}{_GAP}")
