"""Going back: the images of a service, when each was in an environment, and the way to put one there again."""

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
from seamless.rendering.formats import age_of, local_time
from seamless.rendering.runs import Viewer
from seamless.tui.bars import TitleBar
from seamless.tui.coalesced import Coalesced
from seamless.tui.dialogs import Question
from seamless.tui.listing import Column, Listing, Row
from seamless.tui.listroom import ListRoom

if TYPE_CHECKING:
    from seamless.wire import DeploymentJSON, EventJSON, ImageJSON

_COALESCE_S: Final = 0.05


class Images(Listing):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,b", "choose", "Roll back to this", id="roll_back_to"),
        Binding("e", "screen.environment", "Staging/production", id="environment"),
    ]


class RollbackRoom(ListRoom):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._environment = "production"
        self._images: list[ImageJSON] = []
        self._deployments: list[DeploymentJSON] = []
        self._load_soon = Coalesced(self, _COALESCE_S, self.action_load)

    @property
    def service(self) -> str:
        return self._service

    @property
    def command(self) -> str:  # type: ignore[override]  # of this service
        image = self._image
        return f"seamless rollback {self._service} --to {short(image['commit']) if image else 'SHA'}" + (
            " --env staging" if self._environment == "staging" else ""
        )

    @property
    def run_name(self) -> str | None:
        return self._image["run"] if self._image else None

    @property
    def _image(self) -> ImageJSON | None:
        return next((one for one in self._images if _key(one) == self.listing.key), None)

    def body(self) -> ComposeResult:
        yield Images(self._columns, empty="no image may be deployed yet")

    def _columns(self, _: int) -> Sequence[Column]:
        return [
            Column("commit"),
            Column("built", right=True),
            Column(f"in {self._environment}", least=12),
            Column("author", rank=2),
            Column("run", rank=1),
            Column("message", least=16, grows=True),
        ]

    @work(exclusive=True, group="load")
    async def action_load(self) -> None:  # type: ignore[override]  # a worker
        try:
            self._images = await self.home.ask(lambda agent: agent.images(self._service))
            self._deployments = await self.home.ask(lambda agent: agent.deployments(self._service, limit=1000))
            self.listing.waiting = False
        except SeamlessError as error:
            self.complain(error)
        self._show()

    def take_event(self, event: EventJSON) -> None:
        if event["service"] == self._service and event["kind"] in ("deployment", "stage"):
            self._load_soon.ask()

    def tick(self) -> None:
        super().tick()
        self._show()

    def _show(self) -> None:
        viewer = self.home.viewer()
        there = [image for image in self._images if image["deployable"]]
        self.listing.show([self._row(image, viewer) for image in there])
        left_out = len(self._images) - len(there)
        more = f"  {left_out} more cannot be deployed" if left_out else ""
        title = Text.assemble((f"Roll back {self._service}", "bold"), f" in {self._environment}{more}")
        self.query_one(TitleBar).show(title)

    def _row(self, image: ImageJSON, viewer: Viewer) -> Row:
        return Row(
            _key(image),
            (
                Text(short(image["commit"])),
                Text(f"{age_of(image['built_at'], viewer.now)} ago"),
                self._when(image, viewer),
                Text(viewer.call(image["author"])),
                Text(plain(image["run"])),
                Text(plain(image["subject"])),
            ),
        )

    def _when(self, image: ImageJSON, viewer: Viewer) -> Text:
        """Since when it is there, or until when it was there last."""
        good = [
            one
            for one in self._deployments
            if one["environment"] == self._environment and one["state"] in ("success", "superseded")
        ]
        if self._environment in image["environments"]:
            since = next((one for one in good if one["digest"] == image["digest"]), None)
            ended = since and (since["ended_at"] or since["created_at"])
            return Text(f"now, since {age_of(ended, viewer.now)}" if ended else "now", "green")
        for number, one in enumerate(good):
            if one["digest"] == image["digest"]:
                until = good[number - 1]["ended_at"] if number else None
                return Text(f"until {local_time(until)}" if until else local_time(one["created_at"]))
        return Text("never", "dim")

    def action_environment(self) -> None:
        self._environment = "staging" if self._environment == "production" else "production"
        self._show()

    @on(Listing.Chosen)
    def _chosen(self, event: Listing.Chosen) -> None:
        event.stop()
        self._ask()

    @work
    async def _ask(self) -> None:
        image = self._image
        if image is None:
            return
        viewer = self.home.viewer()
        production = self._environment == "production"
        status = self.home.fleet.get(self._service)
        today = status and (status["production"] if production else status["staging"])
        author = viewer.call(image["author"])
        words = [
            Text(f"{f'{self._environment} today':<16}  {short(today['commit']) if today else 'nothing'}"),
            Text(f"{'would become':<16}  {short(image['commit'])}  {plain(image['subject'])} ({author})"),
        ]
        if production:
            words.append(
                Text(f"{self._service} will be on hold: production then opens only on someone's word.", "yellow")
            )
        answer = await self.question(
            Question(
                f"Roll {self._environment} of {self._service} back to {short(image['commit'])}?",
                words,
                do="Roll back",
                typed=self._service if production else None,
            )
        )
        if answer is None:
            return
        started = await self.attempt(
            lambda agent: agent.rollback(image["commit"], service=self._service, environment=self._environment)
        )
        if started:
            self.app.pop_screen()
            from seamless.tui.run import RunRoom

            self.app.push_screen(RunRoom(started["id"]))


def _key(image: ImageJSON) -> str:
    return image["digest"] + image["run"]
