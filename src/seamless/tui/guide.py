"""What can be done here, and by which key: the help, and the command palette. Both are made from the bindings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.binding import ActiveBinding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen

from seamless.logtext import word
from seamless.tui.bars import key_name
from seamless.tui.dialogs import Pages

if TYPE_CHECKING:
    from seamless.tui.app import SeamlessApp


def actions_of(screen: Screen[Any]) -> list[tuple[str, list[str], ActiveBinding]]:
    """(what, its keys, the binding) for each action that the screen has now; those in the key bar first."""
    found: dict[tuple[int, str], tuple[str, list[str], ActiveBinding]] = {}
    for key, active in screen.active_bindings.items():
        binding = active.binding
        if binding.description and binding.id and active.enabled:  # Textual's own have none
            entry = found.setdefault((id(active.node), binding.action), (binding.description, [], active))
            entry[1].append(key_name(key))
    return sorted(found.values(), key=lambda one: not one[2].binding.show)


def guide(app: SeamlessApp) -> Pages:
    """The help: every action of the screen in front with its keys, and the name by which `[keys]` changes them."""
    text = Text()
    actions = [(", ".join(keys), what, active.binding.id or "") for what, keys, active in actions_of(app.screen)]
    widths = [max(len(one[column]) for one in actions) for column in (0, 1)]
    for keys, what, name in actions:
        text.append(f"{keys:<{widths[0]}}", "bold").append(f"  {what:<{widths[1]}}  ").append(f"{name}\n", "dim")
    text.append("\nEvery action is in the command palette as well: ctrl+p.\n")
    text.append(f"Keys are changed in {app.settings.file or 'tui.toml'}: ")
    text.append('[keys] name = "key,key".', "bold").append(" The name is the last word of a line above.\n")
    text.append("States: ").append(
        "  ".join(
            f"{app.viewer().glyph(state)} {word(state)}"
            for state in ("idle", "in_progress", "awaiting_approval", "success", "failure", "skipped", "cancelled")
        )
    )
    return Pages("Help", text)


class Commands(Provider):
    """Every action with its key, and the themes."""

    def _all(self) -> Iterator[tuple[str, str, Any]]:
        """(title, help, what it does)"""
        for what, keys, active in actions_of(self.screen):
            do = partial(self.app.run_action, active.binding.action, active.node)
            yield f"{what}  [{', '.join(keys)}]", active.binding.tooltip, do
        for theme in self.app.available_themes:
            yield f"Theme: {theme}", "", partial(setattr, self.app, "theme", theme)

    async def discover(self) -> Hits:
        for title, help_text, do in self._all():
            yield DiscoveryHit(Text(title), do, text=title, help=help_text or None)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, help_text, do in self._all():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, Text(title), do, text=title, help=help_text or None)
