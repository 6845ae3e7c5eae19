"""The least that Textual does: import it, start an application, paint one line."""

from textual.app import App, ComposeResult
from textual.widgets import Static


class Empty(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("quit")


Empty().run()
