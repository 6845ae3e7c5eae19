"""One run: why it ended as it did, its stages as a graph, and the log of one of them as it grows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from seamless.errors import SeamlessError
from seamless.logtext import word
from seamless.rendering.formats import duration, moment, seconds_between
from seamless.rendering.runs import (
    STYLES,
    Viewer,
    header,
)
from seamless.transitions import RUN_ENDED, STAGE_ENDED
from seamless.tui.acting import ActingRoom
from seamless.tui.bars import KeyBar, TitleBar
from seamless.tui.chart import Chart
from seamless.tui.coalesced import Coalesced
from seamless.tui.dialogs import Pages
from seamless.tui.listing import differs
from seamless.tui.logview import LogView
from seamless.tui.room import Prompt
from seamless.tui.saving import place, save
from seamless.tui.verdicts import all_evidence, folded, proof, verdict

if TYPE_CHECKING:
    from seamless.wire import EventJSON, RunJSON, StageJSON

_SIDE_BY_SIDE: Final = 150
_NARROW: Final = 80
_COALESCE_S: Final = 0.03


class LogBar(TitleBar):
    DEFAULT_CSS = "LogBar { height: 1; text-style: underline; }"


class Facts(Static):
    """Lines that are laid out when they have changed only, and take no room when there are none."""

    DEFAULT_CSS = "Facts { height: auto; padding: 0 1; }"
    _text = Text()

    def show(self, lines: list[Text]) -> None:
        self.display = bool(lines)
        text = Text("\n").join(folded(lines))
        if differs(text, self._text):
            self._text = text
            self.update(text)


class RunRoom(ActingRoom):
    DEFAULT_CSS = """
    RunRoom #above { height: auto; }
    RunRoom #log { height: 1fr; }
    RunRoom #both { height: 1fr; layout: vertical; }
    RunRoom.-wide #both { layout: horizontal; }
    RunRoom.-wide #above { width: 45%; height: 1fr; margin-right: 1; }
    RunRoom.-wide #log { width: 1fr; }
    RunRoom.-log #above { display: none; }
    RunRoom.-narrow #log { display: none; }
    RunRoom.-narrow.-log #log { display: block; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,right_square_bracket", "stage(1)", "Next stage", id="next_stage", priority=True),
        Binding(
            "shift+tab,left_square_bracket",
            "stage(-1)",
            "Previous stage",
            show=False,
            id="previous_stage",
            priority=True,
        ),
        Binding("enter,z", "whole_log", "Whole log", id="whole_log"),
        Binding("v", "evidence", "Evidence", id="evidence"),
        *(
            Binding(str(number), f"pick({number})", f"Stage {number}", show=False, id=f"stage_{number}")
            for number in range(1, 8)
        ),
    ]
    listing_is_of_runs = True

    def __init__(self, run: str) -> None:
        super().__init__()
        self._wanted = run
        self._run: RunJSON | None = None
        self._stage: str | None = None
        self._chosen = False  # by the user; else the log follows the run
        self._reading = Coalesced(self, _COALESCE_S, self._read_soon)

    # What the actions are about

    @property
    def service(self) -> str | None:
        return self._run["service"] if self._run else None

    @property
    def run_name(self) -> str | None:
        return self._run["id"] if self._run else self._wanted

    @property
    def stage_name(self) -> str | None:
        return self._stage

    @property
    def command(self) -> str:  # type: ignore[override]  # of this run
        return f"seamless logs {self.run_name} {self._stage}" if self._stage else f"seamless show {self.run_name}"

    def body(self) -> ComposeResult:
        with Vertical(id="both"):
            with Vertical(id="above"):
                yield Facts(id="verdict")
                yield Chart()
                yield Facts(id="proof")
            with Vertical(id="log"):
                yield LogBar()
                yield LogView(wrap=self.home.settings.wrap)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(LogView).focus()

    @property
    def _log(self) -> LogView:
        return self.query_one(LogView)

    @property
    def foremost(self) -> str | None:  # type: ignore[override]  # depends on the run
        return "approve" if self._run and self._run["state"] == "awaiting_approval" else None

    def is_apt(self, action: str) -> bool:
        state = self._run["state"] if self._run else ""
        match action:
            case "approve":
                return state == "awaiting_approval"
            case "cancel":
                return state not in RUN_ENDED
            case "rerun" | "rollback":
                return state in RUN_ENDED
        return True

    # Staying up to date

    @work(exclusive=True, group="load")
    async def action_load(self) -> None:  # type: ignore[override]  # a worker
        await self._read_run()
        self._log.load_again()

    async def _read_run(self) -> None:
        try:
            run = await self.home.ask(lambda agent: agent.run(self._wanted))
        except SeamlessError as error:
            if self.home.lost is None:
                self.complain(error)
            return
        self._run, self._wanted = run, run["id"]
        self.query_one(KeyBar).refresh()
        self._pick_stage()
        self.tick()

    def take_event(self, event: EventJSON) -> None:
        if event["run"] == self.run_name:
            self._reading.ask()

    @work
    async def _read_soon(self) -> None:
        await self._read_run()

    def _pick_stage(self) -> None:
        """The one that failed, else the first that runs, else the last that ran: until the user picks."""
        assert self._run is not None
        stages = self._run["stages"]
        if not self._chosen:
            shown = next((one for one in stages if one["name"] == self._stage), None)
            for state in ("failure", "in_progress"):
                found = [one["name"] for one in stages if one["state"] == state]
                if found and not (shown and shown["state"] == state):
                    self._show_stage(found[0])
                    break
                if found:
                    break
            else:
                ran = [one["name"] for one in stages if one["started_at"] and one["state"] != "idle"]
                if self._stage is None and stages:
                    self._show_stage(ran[-1] if ran else stages[0]["name"])
        elif self._stage is None and stages:
            self._show_stage(stages[0]["name"])
        now = self._stage_now
        if now and now["state"] in STAGE_ENDED:
            self._log.ended()

    @property
    def _stage_now(self) -> StageJSON | None:
        stages = self._run["stages"] if self._run else []
        return next((one for one in stages if one["name"] == self._stage), None)

    def _show_stage(self, name: str) -> None:
        assert self._run is not None
        self._stage = name
        now = self._stage_now
        self._log.open(self._run["id"], name, live=now is not None and now["state"] not in STAGE_ENDED)
        self.tick()

    # Drawing

    def on_resize(self) -> None:
        self.tick()

    def tick(self) -> None:
        super().tick()
        width, height = self.size
        self.set_class(width >= _SIDE_BY_SIDE, "-wide")
        self.set_class(width < _NARROW, "-narrow")
        self._focus_log()
        if self._run is None:
            self.query_one(TitleBar).show(Text(self._wanted))
            return
        viewer = self.home.viewer()
        self._show_title(self._run, viewer)
        lines = verdict(self._run, viewer)
        most = height // 2 if width >= _SIDE_BY_SIDE or width < _NARROW else max(2, height // 5)
        if len(lines) > most:
            lines = [*lines[: most - 1], Text("  … v shows all", "dim")]
        self.query_one("#verdict", Facts).show(lines)
        self.query_one("#proof", Facts).show([Text(), *proof(self._run)] if width >= _SIDE_BY_SIDE else [])
        self.query_one(Chart).show(self._run, viewer, self._stage)
        self._show_log_bar()

    def _show_title(self, run: RunJSON, viewer: Viewer) -> None:
        seconds = seconds_between(run["started_at"], run["ended_at"], viewer.now)
        state = f"{viewer.glyph(run['state'])} {word(run['state'])}"
        took = f"  {duration(seconds)}" if seconds is not None else ""
        self.query_one(TitleBar).show(header(run, viewer), f"{state}{took}")

    @on(LogView.Moved)
    def _show_log_bar(self) -> None:
        now = self._stage_now
        if now is None:
            return
        viewer = self.home.viewer()
        what, where = self._log.describe()
        left = Text.assemble(
            (f"{viewer.glyph(now['state'])} ", STYLES.get(now["state"], "")), (now["name"], "bold"), f"  {what}"
        )
        self.query_one(LogBar).show(left, where)

    # Keys

    def action_stage(self, by: int) -> None:
        if self._run is not None:
            names = [one["name"] for one in self._run["stages"]]
            self._choose(names[(names.index(self._stage) + by) % len(names)] if self._stage in names else names[0])

    def action_pick(self, number: int) -> None:
        if self._run is not None and number <= len(self._run["stages"]):
            self._choose(self._run["stages"][number - 1]["name"])

    @on(Chart.Picked)
    def _picked(self, event: Chart.Picked) -> None:
        self._choose(event.stage)

    def _choose(self, stage: str) -> None:
        self._chosen = True
        if stage != self._stage:
            self._show_stage(stage)

    def action_whole_log(self) -> None:
        if self._log.filtered:
            self._log.filter("")
        else:
            self.toggle_class("-log")
            self._focus_log()

    def _focus_log(self) -> None:
        """Its keys work as long as it can be seen."""
        is_seen = self.has_class("-log") or not self.has_class("-narrow")
        if is_seen and self.focused is None:
            self.call_after_refresh(self._log.focus)
        elif not is_seen and self.focused is self._log:
            self.set_focus(None)

    def action_leave(self) -> None:
        if self._log.stop_searching():
            return
        if self._log.filtered:
            self._log.filter("")
        elif self.has_class("-log"):
            self.remove_class("-log")
        else:
            super().action_leave()

    def action_evidence(self) -> None:
        if self._run is not None:
            lines = all_evidence(self._run, self.home.viewer())
            self.app.push_screen(Pages(f"{self._run['id']}: all that is known", Text("\n").join(lines)))

    def action_log_search(self) -> None:
        self._prompt("/", self._log.search)

    def action_log_filter(self) -> None:
        self._prompt("&", self._log.filter, value=self._log.filtered)

    def action_log_line(self) -> None:
        def go(text: str) -> None:
            if text.strip().isdecimal() and int(text) > 0:
                self._log.go_to_line(int(text))
            elif text.strip():
                self.complain(SeamlessError(f"{text.strip()!r} is not the number of a line"))

        self._prompt("line", go)

    def action_log_time(self) -> None:
        def go(text: str) -> None:
            now = self._stage_now
            if text.strip() and now and (began := now["started_at"]):
                try:
                    until = moment(now["ended_at"]) if now["ended_at"] else datetime.now(UTC)
                    self._log.go_to_time(time_of_day(text.strip(), moment(began), until))
                except ValueError:
                    self.complain(SeamlessError(f"{text.strip()!r} is not a time", hint="14:02 or 14:02:30"))

        self._prompt("time (14:02 or 14:02:30)", go)

    def action_log_save(self) -> None:
        self._prompt("save to", self._save, value=self._file_name)

    @property
    def _file_name(self) -> str:
        return f"{self.run_name}-{self._stage}.log"

    def _prompt(self, label: str, done: object, value: str = "") -> None:
        if self._stage is not None:
            self.query_one(Prompt).ask(label, done, value=value)  # type: ignore[arg-type]  # any of one text

    @work
    async def _save(self, typed: str) -> None:
        if not typed.strip() or self._run is None or self._stage is None:
            return
        run, stage = self._run["id"], self._stage
        try:
            path = place(typed.strip(), self._file_name)
            self.say(f"saving to {path} …")
            count = await self.home.ask(lambda agent: save(agent, run, stage, path))
        except SeamlessError as error:
            self.complain(error)
        else:
            self.say(f"{count:,} bytes are in {path}")


def time_of_day(text: str, began: datetime, until: datetime) -> str:
    """The first such local time in a log that goes from `began` to `until`, else the one that is nearest to it, as ISO.
    Raises ValueError."""
    hour, minute, *second = (int(part) for part in text.split(":"))
    if len(second) > 1:
        raise ValueError(text)
    local = began.astimezone().replace(hour=hour, minute=minute, second=second[0] if second else 0, microsecond=0)
    first = began.replace(second=0, microsecond=0)  # a minute holds all its seconds
    days = range(-1, (until - began).days + 2)

    def distance(at: datetime) -> timedelta:
        return max(first - at, at - until, timedelta(0))

    return min((local + timedelta(days=day) for day in days), key=distance).isoformat()
