"""Screens that are lists."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from seamless.tui.acting import ActingRoom
from seamless.tui.listing import Listing
from seamless.tui.room import Prompt


class ListRoom(ActingRoom):
    """A screen whose lists can be filtered."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", "Filter", id="filter", priority=True)]

    @property
    def listing(self) -> Listing:
        """The one in front."""
        return self.query_one(Listing)

    def show_place(self) -> None:
        """The cursor was moved, or the list filtered."""

    @on(Listing.Moved)
    def _moved(self) -> None:
        self.show_place()

    def action_filter(self) -> None:
        listing = self.listing
        self.query_one(Prompt).ask("/", lambda _: None, value=listing.pattern, changed=listing.filter)

    def action_leave(self) -> None:
        if self.listing.pattern:
            self.listing.filter("")
        else:
            super().action_leave()
