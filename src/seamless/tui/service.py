"""One service: its runs, its images, its deployments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from seamless.errors import SeamlessError
from seamless.logtext import plain, word
from seamless.model import short
from seamless.rendering.formats import age_of, local_time
from seamless.rendering.runs import STYLES, Viewer, ref_name
from seamless.rendering.tables import now_text, run_state, took
from seamless.tui.bars import TitleBar
from seamless.tui.coalesced import Coalesced
from seamless.tui.listing import Column, Listing, Row
from seamless.tui.listroom import ListRoom

if TYPE_CHECKING:
    from seamless.wire import DeploymentJSON, EventJSON, ImageJSON, RunJSON

_COALESCE_S: Final = 0.05
_PAGE: Final = 100
_LISTS: Final = ("runs", "images", "deployments")


def _run_columns(_: int) -> Sequence[Column]:
    return [
        Column("run"),
        Column("state"),
        Column("trigger", rank=4),
        Column("ref", rank=2),
        Column("commit"),
        Column("age", rank=1, right=True),
        Column("took", rank=3, right=True),
        Column("author", rank=5),
        Column("subject", least=16, grows=True),
    ]


def _image_columns(_: int) -> Sequence[Column]:
    return [
        Column("commit"),
        Column("built", right=True),
        Column("runs in"),
        Column("rollback", rank=1),
        Column("run", rank=2),
        Column("author", rank=4),
        Column("digest", rank=3),
        Column("subject", least=16, grows=True),
    ]


def _deployment_columns(_: int) -> Sequence[Column]:
    return [
        Column("environment"),
        Column("commit"),
        Column("state"),
        Column("age", right=True),
        Column("run"),
        Column("trigger", rank=1),
        Column("reason", least=12, grows=True),
    ]


class ServiceRoom(ListRoom):
    DEFAULT_CSS = "ServiceRoom ContentSwitcher { height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "next_list(1)", "Runs/images/deployments", id="next_list", priority=True),
        Binding("shift+tab", "next_list(-1)", "Previous list", show=False, id="previous_list", priority=True),
        Binding("1", "list('runs')", "Runs", show=False, id="runs"),
        Binding("2", "list('images')", "Images", show=False, id="images"),
        Binding("3", "list('deployments')", "Deployments", show=False, id="deployments"),
    ]

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._runs: list[RunJSON] = []
        self._images: list[ImageJSON] = []
        self._deployments: list[DeploymentJSON] = []
        self._no_older = False
        self._load_soon = Coalesced(self, _COALESCE_S, self.action_load)

    @property
    def service(self) -> str:
        return self._service

    @property
    def command(self) -> str:  # type: ignore[override]  # of this service
        return {"runs": "seamless runs", "images": "seamless images"}.get(
            self._front, "seamless service show"
        ) + f" {self._service}"

    @property
    def _front(self) -> str:
        return self.query_one(ContentSwitcher).current or "runs"

    @property
    def listing(self) -> Listing:
        return self.query_one(f"#{self._front}", Listing)

    @property
    def run_name(self) -> str | None:
        if self._front == "runs":
            return self.listing.key
        return self._runs[0]["id"] if self._runs else None

    @property
    def listing_is_of_runs(self) -> bool:  # type: ignore[override]  # depends on the list in front
        return self._front == "runs"

    def body(self) -> ComposeResult:
        with ContentSwitcher(initial="runs"):
            yield Listing(_run_columns, empty="no runs yet: r starts one", id="runs")
            yield Listing(_image_columns, empty="no images yet", id="images")
            yield Listing(_deployment_columns, empty="nothing was deployed yet", id="deployments")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#runs", Listing).focus()

    def action_next_list(self, by: int) -> None:
        self.action_list(_LISTS[(_LISTS.index(self._front) + by) % len(_LISTS)])

    def action_list(self, name: str) -> None:
        self.query_one(ContentSwitcher).current = name
        self.listing.focus()
        self.tick()

    @work(exclusive=True, group="load")
    async def action_load(self) -> None:  # type: ignore[override]  # a worker
        service, count = self._service, max(_PAGE, len(self._runs))
        try:
            self._runs = await self.home.ask(lambda agent: agent.runs(service=service, limit=min(count, 1000)))
            self._images = await self.home.ask(lambda agent: agent.images(service))
            self._deployments = await self.home.ask(lambda agent: agent.deployments(service))
            for listing in self.query(Listing):
                listing.waiting = False
        except SeamlessError as error:
            if self.home.lost is None:
                self.complain(error)
        self._show()

    @on(Listing.NearEnd, "#runs")
    def _older(self) -> None:
        if self._runs and not self._no_older:
            self._load_older(self._runs[-1]["id"])

    @work(exclusive=True, group="older")
    async def _load_older(self, before: str) -> None:
        found = await self.attempt(lambda agent: agent.runs(service=self._service, limit=_PAGE, before=before))
        self._no_older = len(found or []) < _PAGE
        self._runs += found or []
        self._show()

    def take_event(self, event: EventJSON) -> None:
        if event["service"] == self._service:
            self._load_soon.ask()

    def tick(self) -> None:
        super().tick()
        self._show()

    def _show(self) -> None:
        viewer = self.home.viewer()
        self.query_one("#runs", Listing).show([_run_row(run, viewer) for run in self._runs])
        self.query_one("#images", Listing).show([_image_row(image, viewer) for image in self._images])
        self.query_one("#deployments", Listing).show([_deployment_row(one, viewer) for one in self._deployments])
        title = Text(self._service, "bold")
        if status := self.home.fleet.get(self._service):
            title.append("  ").append_text(now_text(status, viewer))
        lists = "  ".join(f"[{name}]" if name == self._front else name for name in _LISTS)
        self.query_one(TitleBar).show(title, lists)

    @on(Listing.Chosen)
    def _open(self, event: Listing.Chosen) -> None:
        event.stop()
        if self._front == "runs":
            self.open_run(event.key)
        elif self._front == "images":
            self.open_run(next(image["run"] for image in self._images if image["digest"] + image["run"] == event.key))
        else:
            self.open_run(next(one["run"] for one in self._deployments if str(one["id"]) == event.key))


def _run_row(run: RunJSON, viewer: Viewer) -> Row:
    return Row(
        run["id"],
        (
            Text(plain(run["id"])),
            run_state(run["state"], viewer),
            Text(run["trigger"]),
            Text(ref_name(run["ref"])),
            Text(short(run["commit"])),
            Text(age_of(run["created_at"], viewer.now)),
            Text(took(run, viewer)),
            Text(viewer.call(run["author"])),
            Text(plain(run["subject"])),
        ),
    )


def _image_row(image: ImageJSON, viewer: Viewer) -> Row:
    return Row(
        image["digest"] + image["run"],
        (
            Text(short(image["commit"])),
            Text(f"{age_of(image['built_at'], viewer.now)} ago"),
            Text(", ".join(image["environments"]) or "-"),
            Text("possible", "green") if image["deployable"] else Text("no", "dim"),
            Text(plain(image["run"])),
            Text(viewer.call(image["author"])),
            Text(plain(image["digest"].removeprefix("sha256:")[:12])),
            Text(plain(image["subject"])),
        ),
    )


def _deployment_row(one: DeploymentJSON, viewer: Viewer) -> Row:
    state = Text(f"{viewer.glyph(one['state'])} {word(one['state'])}", STYLES.get(one["state"], "yellow"))
    return Row(
        str(one["id"]),
        (
            Text(one["environment"]),
            Text(short(one["commit"])),
            state,
            Text(age_of(one["ended_at"] or one["created_at"], viewer.now)),
            Text(plain(one["run"])),
            Text(one["trigger"]),
            Text(plain(one["reason"] or local_time(one["created_at"]))),
        ),
    )
