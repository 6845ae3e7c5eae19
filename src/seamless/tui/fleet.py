"""The whole fleet on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from seamless.logtext import plain, word
from seamless.rendering.formats import age_of
from seamless.rendering.runs import STYLES, Viewer
from seamless.rendering.tables import head_cell, now_briefly, now_text, release_cells
from seamless.tui.bars import TitleBar
from seamless.tui.listing import Column, Listing, Row
from seamless.tui.listroom import ListRoom

if TYPE_CHECKING:
    from seamless.wire import ReleaseJSON, ServiceStatusJSON

_WIDE: Final = 110
_LAST: Final = 140


def _columns(width: int) -> Sequence[Column]:
    return [
        Column("service"),
        Column("head", rank=2),
        Column("staging", rank=3),
        Column("", rank=4, right=True),
        Column("production"),
        Column("", rank=1, right=True),
        Column("now", least=24, grows=True),
        Column("last", rank=5) if width >= _LAST else Column("", rank=5),
    ]


class FleetRoom(ListRoom):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", show=False, id="back")]
    command = "seamless status"

    def body(self) -> ComposeResult:
        yield Listing(_columns, orders=("name", "urgency", "newest in production"), empty="no services are configured")

    @property
    def service(self) -> str | None:
        return self.listing.key

    @property
    def run_name(self) -> str | None:
        """The run that is most likely meant: the one that goes on, waits, or was the last."""
        status = self.home.fleet.get(self.service or "")
        if status is None:
            return None
        found = [*status["running"], *([status["waiting"]] if status["waiting"] else [])]
        newest = found[0] if found else status["last"]
        return newest["id"] if newest else None

    def tick(self) -> None:
        super().tick()
        viewer = self.home.viewer()
        listing = self.listing
        width = listing.size.width
        listing.waiting = not self.home.fleet_known
        listing.show([_row(status, viewer, width) for status in self.home.fleet.values()])
        self._show_title(viewer)

    def show_place(self) -> None:
        self._show_title(self.home.viewer())

    @on(Listing.Resized)
    def _resized(self) -> None:
        self.tick()

    def _show_title(self, viewer: Viewer) -> None:
        fleet = self.home.fleet.values()
        counts = [
            ("in_progress", sum(len(status["running"]) for status in fleet), "running"),
            ("awaiting_approval", sum(status["waiting"] is not None for status in fleet), "waiting"),
            ("failure", sum(status["red_since"] is not None for status in fleet), "red"),
            ("on_hold", sum(status["hold"] is not None for status in fleet), "on hold"),
        ]
        words = [f"{viewer.glyph(state)} {count} {what}" for state, count, what in counts if count]
        services = "1 service" if len(fleet) == 1 else f"{len(fleet)} services"
        listing = self.listing
        where = f"{listing.cursor + 1}/{len(listing.shown)}" if listing.shown else ""
        self.query_one(TitleBar).show(Text("  ".join(["Seamless", services, *words])), where)

    @on(Listing.Chosen)
    def _open(self, event: Listing.Chosen) -> None:
        from seamless.tui.service import ServiceRoom

        event.stop()
        self.app.push_screen(ServiceRoom(event.key))

    def action_leave(self) -> None:
        self.listing.filter("")
        self.tick()


def _row(status: ServiceStatusJSON, viewer: Viewer, width: int) -> Row:
    last = _last(status, viewer)
    beside = width >= _LAST  # in a column of its own; else it stands where nothing happens now
    in_words = now_text if width >= _WIDE else now_briefly
    cells = (
        Text(plain(status["service"])),
        _text(head_cell(status["head"])),
        *_release(status["staging"], viewer),
        *_release(status["production"], viewer),
        in_words(status, viewer, None if beside else last),
        last if beside else Text(),
    )
    production = status["production"]
    newest = production["deployed_at"] if production else ""
    reverse = tuple(-ord(char) for char in newest) or (0,)
    return Row(
        status["service"],
        cells,
        (status["service"], (_urgency(status), status["service"]), (reverse, status["service"])),
    )


def _text(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def _release(release: ReleaseJSON | None, viewer: Viewer) -> tuple[Text, Text]:
    commit, since = release_cells(release, viewer)
    return _text(commit), Text(
        age_of(release["deployed_at"], viewer.now) if release else "", "dim"
    ) if since else Text()


def _last(status: ServiceStatusJSON, viewer: Viewer) -> Text:
    last = status["last"]
    if last is None:
        return Text()
    ago = age_of(last["ended_at"] or last["created_at"], viewer.now)
    return Text.assemble(
        (f"{viewer.glyph(last['state'])} ", STYLES.get(last["state"], "")),
        f"{plain(last['id'])} {word(last['state'])} {ago} ago",
    )


def _urgency(status: ServiceStatusJSON) -> int:
    if status["waiting"]:
        return 0
    if status["red_since"] or status["problem"]:
        return 1
    if status["hold"]:
        return 2
    return 3 if status["running"] else 4
