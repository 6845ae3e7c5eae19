"""Who did what, when: the history as it grows, or only what people asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from seamless.errors import SeamlessError
from seamless.logtext import plain, word
from seamless.model import short
from seamless.rendering.formats import moment
from seamless.rendering.runs import STYLES, Viewer
from seamless.tui.bars import TitleBar
from seamless.tui.coalesced import Coalesced
from seamless.tui.listing import Column, Listing, Row
from seamless.tui.listroom import ListRoom

if TYPE_CHECKING:
    from seamless.wire import EventJSON

_COALESCE_S: Final = 0.05
_PAGE: Final = 200
_MOST: Final = 1000  # events that are held while nobody looks at older ones
_NEWEST: Final = 2**62

_WORDS: Final = {
    ("run", "create"): "queued",
    ("run", "start"): "started",
    ("run", "approve"): "approved, goes on",
    ("run", "supersede"): "superseded",
    ("run", "reject"): "rejected",
    ("run", "expire"): "approval expired",
    ("run", "void"): "approval void",
    ("stage", "start"): "started",
    ("stage", "reuse"): "kept",
    ("stage", "retry"): "to be tried again",
    ("stage", "interrupt"): "interrupted",
    ("stage", "give_up"): "given up",
    ("deployment", "record"): "to be deployed",
    ("deployment", "submit"): "being deployed",
    ("deployment", "complete"): "deployed",
    ("deployment", "fail"): "failed",
    ("deployment", "abandon"): "failed",
    ("config", "reload"): "configuration loaded",
    ("config", "refuse"): "configuration refused",
    ("service", "skip"): "commit skipped",
    ("service", "pause"): "polling paused",
    ("agent", "gc"): "old things removed",
    ("agent", "no_room"): "the disk is full",
    ("agent", "room"): "there is room again",
    ("wait", "wait"): "waits for",
}
"""What is said of an event instead of the word for the state that it led to."""


def _columns(width: int) -> Sequence[Column]:
    return [
        Column("when"),
        Column("who"),
        Column("run"),
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
        self._show_soon = Coalesced(self, _COALESCE_S, self._show)

    @property
    def command(self) -> str:  # type: ignore[override]  # of the row
        return (
            "seamless events" + ("" if self._audit else " --all") + (f" --run {self.run_name}" if self.run_name else "")
        )

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

    def _named(self, name: str | None, what: str) -> str | None:
        if name is None and self._event is not None:
            self.complain(SeamlessError(f"this event is about no {what}"))
            return None
        return super()._named(name, what)

    def body(self) -> ComposeResult:
        yield Listing(_columns, empty="nothing has happened yet")

    @work(exclusive=True, group="load")
    async def action_load(self) -> None:  # type: ignore[override]  # a worker
        await self._fetch(_NEWEST)

    async def _fetch(self, before: int) -> None:
        audit = self._audit
        kind = "action" if audit else None
        try:
            found = await self.home.ask(lambda agent: agent.events(before=before, limit=_PAGE, kind=kind))
        except SeamlessError as error:
            if self.home.lost is None:
                self.complain(error)
            return
        if audit != self._audit:
            return
        if before == _NEWEST:  # what has come since the agent answered stays
            newest = found[0]["id"] if found else 0
            self._events = [one for one in self._events if one["id"] > newest and self._is_wanted(one)]
        self.listing.waiting = False
        self._no_older = len(found) < _PAGE
        self._events += found
        self._show()

    def _is_wanted(self, event: EventJSON) -> bool:
        return event["kind"] == "action" or not self._audit

    @on(Listing.NearEnd)
    def _older(self) -> None:
        if self._events and not self._no_older:
            self._fetch_older(self._events[-1]["id"])

    @work(exclusive=True, group="older")
    async def _fetch_older(self, before: int) -> None:
        await self._fetch(before)

    def take_event(self, event: EventJSON) -> None:
        newest = self._events[0]["id"] if self._events else 0
        if event["id"] > newest and self._is_wanted(event):
            self._events.insert(0, event)
            if len(self._events) > _MOST and self.listing.cursor < _PAGE:
                self._events, self._no_older = self._events[: _MOST - _PAGE], False
            self._show_soon.ask()

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
    return Row(
        str(event["id"]),
        (
            Text(f"{at:%H:%M:%S}" if today else f"{at.day} {at:%b %H:%M}"),
            _who(event, viewer),
            Text(plain(event["run"] or event["service"] or "")),
            _what(event, viewer),
            Text(_why(event)),
        ),
    )


def _who(event: EventJSON, viewer: Viewer) -> Text:
    actor = event["actor"] or "agent"
    return Text(viewer.call(actor), "" if actor == "agent" else "bold")


def _what(event: EventJSON, viewer: Viewer) -> Text:
    """`✔ unit_test success`, `▶ production: being deployed`; of what somebody asked for, the name of the command."""
    state = event["to_state"]
    said = _WORDS.get((event["kind"], event["name"])) or (word(state) if state else event["name"].replace("_", " "))
    if event["kind"] == "deployment":
        said = f"{event['data'].get('environment') or 'environment'}: {said}"
    elif event["stage"]:
        said = f"{event['stage']} {said}"
    if state is None:
        return Text(plain(said), "bold" if event["kind"] == "action" else "")
    return Text(f"{viewer.glyph(state)} {plain(said)}", STYLES.get(state, ""))


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
