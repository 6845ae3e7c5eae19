"""Who did what, when: the history as it grows, or only what people asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from seamless.errors import SeamlessError
from seamless.logtext import plain
from seamless.model import short
from seamless.rendering.formats import moment
from seamless.rendering.runs import STYLES, Viewer
from seamless.tui.bars import TitleBar
from seamless.tui.listing import Column, Listing, Row
from seamless.tui.listroom import ListRoom

if TYPE_CHECKING:
    from seamless.wire import EventJSON

_PAGE: Final = 200
_NEWEST: Final = 2**62


def _columns(width: int) -> Sequence[Column]:
    return [
        Column("when"),
        Column("who", rank=1),
        Column("about"),
        Column("what"),
        Column("why", least=8, grows=True),
    ]


class HistoryRoom(ListRoom):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("A", "audit", "Actions only/all", id="audit"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._events: list[EventJSON] = []  # newest first
        self._audit = False
        self._no_older = False

    @property
    def command(self) -> str:  # type: ignore[override]  # of the row
        return f"seamless show {self.run_name}" if self.run_name else "seamless status"

    @property
    def _event(self) -> EventJSON | None:
        return next((one for one in self._events if str(one["id"]) == self.listing.key), None)

    @property
    def service(self) -> str | None:
        return self._event["service"] if self._event else None

    @property
    def run_name(self) -> str | None:
        return self._event["run"] if self._event else None

    listing_is_of_runs = True

    def body(self) -> ComposeResult:
        yield Listing(_columns, empty="nothing has happened yet")

    @work(exclusive=True, group="load")
    async def action_load(self) -> None:  # type: ignore[override]  # a worker
        await self._fetch(_NEWEST)

    async def _fetch(self, before: int) -> None:
        kind = "action" if self._audit else None
        try:
            found = await self.home.ask(lambda agent: agent.events(before=before, limit=_PAGE, kind=kind))
        except SeamlessError as error:
            if self.home.lost is None:
                self.complain(error)
            return
        if before == _NEWEST:
            self._events, self._no_older = [], False
        self.listing.waiting = False
        self._no_older = len(found) < _PAGE
        self._events += found
        self._show()

    @on(Listing.NearEnd)
    def _older(self) -> None:
        if self._events and not self._no_older:
            self._fetch_older(self._events[-1]["id"])

    @work(exclusive=True, group="older")
    async def _fetch_older(self, before: int) -> None:
        await self._fetch(before)

    def take_event(self, event: EventJSON) -> None:
        newest = self._events[0]["id"] if self._events else 0
        if event["id"] > newest and (event["kind"] == "action" or not self._audit):
            self._events.insert(0, event)
            self._show()

    def action_audit(self) -> None:
        self._audit = not self._audit
        self.action_load()

    def _show(self) -> None:
        viewer = self.home.viewer()
        self.listing.show([_row(event, viewer) for event in self._events])
        what = "What people asked for" if self._audit else "Everything that happened"
        older = "" if self._no_older else "+"
        self.query_one(TitleBar).show(Text(what, "bold"), f"{len(self._events)}{older}")

    @on(Listing.Chosen)
    def _open(self, event: Listing.Chosen) -> None:
        event.stop()
        if self.run_name:
            self.open_run(self.run_name)
        elif self.service:
            from seamless.tui.service import ServiceRoom

            self.app.push_screen(ServiceRoom(self.service))


def _row(event: EventJSON, viewer: Viewer) -> Row:
    at = moment(event["at"]).astimezone()
    today = at.date() == viewer.now.astimezone().date()
    about = " ".join(part for part in (event["run"] or event["service"] or "", event["stage"] or "") if part)
    return Row(
        str(event["id"]),
        (
            Text(f"{at:%H:%M:%S}" if today else f"{at.day} {at:%b %H:%M}"),
            Text(viewer.call(event["actor"]) if event["actor"] else "", "bold"),
            Text(plain(about)),
            _what(event, viewer),
            Text(_why(event)),
        ),
    )


def _what(event: EventJSON, viewer: Viewer) -> Text:
    name = plain(event["name"].replace("_", " "))
    if event["kind"] == "deployment":
        environment = plain(str(event["data"].get("environment") or ""))
        name = f"{name} {environment}".strip()
    state = event["to_state"]
    if state is None:
        return Text(name, "bold" if event["kind"] == "action" else "")
    return Text(f"{viewer.glyph(state)} {name}", STYLES.get(state, ""))


def _why(event: EventJSON) -> str:
    """The reason, and what else the event tells."""
    data = event["data"]
    known = [
        plain(event["reason"] or ""),
        short(str(data["commit"])) if data.get("commit") else "",
        plain(str(data.get("subject") or "")),
        f"#{plain(str(data['pull_request']))}" if data.get("pull_request") else "",
    ]
    return "  ".join(part for part in known if part)
