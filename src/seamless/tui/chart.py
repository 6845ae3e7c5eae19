"""A run's stages as a graph: what needs what, state, time, and a bar of the time each took, on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from seamless.logtext import because, word
from seamless.model import NEEDS, StageName
from seamless.rendering import evidence
from seamless.rendering.formats import duration, moment, seconds_between
from seamless.rendering.runs import STYLES, Viewer
from seamless.tui.listing import strip_of

if TYPE_CHECKING:
    from seamless.wire import RunJSON, StageJSON

_NAME: Final = 17
_TIME: Final = 9
_LEFT: Final = 6 + _NAME + _TIME
_MOST_BAR: Final = 48
_LEAST_BAR: Final = 8


def critical_path(stages: Sequence[StageJSON], now: datetime) -> set[str]:
    """The stages that made the run take as long as it did: from the last to end, back over what each waited for."""
    started = {StageName(stage["name"]): stage for stage in stages if stage["started_at"]}
    if not started:
        return set()

    def end(name: StageName) -> datetime:
        ended = started[name]["ended_at"]
        return moment(ended) if ended else now

    def lateness(name: StageName) -> tuple[datetime, bool, int]:
        """What was cancelled because another one ended did not make anybody wait."""
        return end(name), started[name]["state"] != "cancelled", list(StageName).index(name)

    at: StageName | None = max(started, key=lateness)
    path: set[str] = set()
    while at is not None:
        path.add(at)
        at = max(_needs(at, started), key=lateness, default=None)
    return path


def _needs(name: StageName, started: Mapping[StageName, StageJSON]) -> set[StageName]:
    """What it waited for; over stages that did not run."""
    found: set[StageName] = set()
    for need in NEEDS[name]:
        found |= {need} if need in started else _needs(need, started)
    return found


def spans(stages: Sequence[StageJSON], now: datetime) -> dict[str, tuple[float, float]]:
    """Start and end of each started stage in seconds of work: times in which no stage ran are left out."""
    times = sorted(
        (moment(stage["started_at"]), moment(stage["ended_at"]) if stage["ended_at"] else now, stage["name"])
        for stage in stages
        if stage["started_at"]
    )
    found: dict[str, tuple[float, float]] = {}
    left_out = 0.0
    busy_until: datetime | None = None
    origin = times[0][0] if times else now
    for start, end, name in times:
        end = max(start, end)
        if busy_until is not None and start > busy_until:
            left_out += (start - busy_until).total_seconds()
        busy_until = end if busy_until is None else max(busy_until, end)
        begun = (start - origin).total_seconds() - left_out
        found[name] = (begun, begun + (end - start).total_seconds())
    return found


def _branches(stages: Sequence[StageJSON]) -> dict[str, str]:
    """What marks the stages that start together."""
    found = {}
    together: dict[tuple[StageName, ...], list[str]] = {}
    for stage in stages:
        together.setdefault(NEEDS[StageName(stage["name"])], []).append(stage["name"])
    for names in together.values():
        for number, name in enumerate(names):
            mark = "┌" if number == 0 else "└" if number == len(names) - 1 else "├"
            found[name] = mark if len(names) > 1 else " "
    return found


def chart(run: RunJSON, viewer: Viewer, width: int) -> list[Text]:
    """A line for each stage. Stages of the critical path have a heavy bar, the others a light one."""
    stages = run["stages"]
    critical = critical_path(stages, viewer.now)
    times = spans(stages, viewer.now)
    whole = max([end for _, end in times.values()] or [0.0]) or 1.0
    marks = _branches(stages)
    room = width - _LEFT - 2
    told = [_note(stage) for stage in stages]
    longest = max((note.cell_len for note in told), default=0)
    bar_width = min(_MOST_BAR, room if room < 30 else max(12, min(room * 2 // 5, room - longest - 1)))
    lines = []
    for stage, note in zip(stages, told, strict=True):
        state = stage["state"]
        style = STYLES.get(state, "")
        seconds = seconds_between(stage["started_at"], stage["ended_at"], viewer.now)
        shown = duration(seconds) if seconds is not None and state != "idle" else ""
        line = Text(no_wrap=True)
        line.append(f" {viewer.glyph(state)} ", style)
        line.append(f"{marks[stage['name']]} ", "dim")
        line.append(f"{stage['name']:<{_NAME}}", "dim" if style == "dim" else "bold" if state == "failure" else "")
        line.append(f"{shown:>{_TIME}} ")
        if bar_width >= _LEAST_BAR:
            line.append_text(_bar(stage, times, whole, bar_width, is_critical=stage["name"] in critical))
        if room - bar_width > 8:
            line.append(" ").append_text(note)
        lines.append(line)
    return lines


def _bar(
    stage: StageJSON, times: Mapping[str, tuple[float, float]], whole: float, width: int, *, is_critical: bool
) -> Text:
    if stage["name"] not in times or stage["state"] == "idle":
        return Text(" " * width)
    start, end = times[stage["name"]]
    first = min(width - 1, int(width * start / whole))
    count = max(1, min(width, round(width * end / whole)) - first)
    drawn = ("━" if is_critical else "─") * count
    if stage["state"] == "in_progress":
        drawn = drawn[:-1] + "╸"
    line = Text(" " * first)
    line.append(drawn, STYLES.get(stage["state"], ""))
    return line.append(" " * (width - first - count))


def _note(stage: StageJSON) -> Text:
    state = stage["state"]
    if state == "in_progress":
        usual = f"usually {duration(stage['usual_s'])}" if stage["usual_s"] else "running"
        again = f" · attempt {stage['attempt']}" if stage["attempt"] > 1 else ""
        return Text(usual + again, "dim")
    said = " · ".join(evidence.notes(stage))
    if state in ("failure", "skipped", "cancelled"):
        said_first = "failed" if state == "failure" else word(state)
        return Text(said_first + because(said_first, stage["reason"]), STYLES.get(state, ""))
    return Text(said, "dim")


class Chart(Widget):
    """The graph on screen; the stage whose log is shown is marked."""

    DEFAULT_CSS = "Chart { height: auto; }"

    class Picked(Message):
        def __init__(self, stage: str) -> None:
            super().__init__()
            self.stage = stage

    def __init__(self) -> None:
        super().__init__()
        self._run: RunJSON | None = None
        self._lines: list[Text] = []
        self._selected: str | None = None

    def show(self, run: RunJSON, viewer: Viewer, selected: str | None) -> None:
        lines = chart(run, viewer, self.size.width or 80)
        grown = len(lines) != len(self._lines)
        if (
            grown
            or selected != self._selected
            or any(a != b or a.spans != b.spans for a, b in zip(lines, self._lines, strict=True))
        ):
            self._run, self._lines, self._selected = run, lines, selected
            self.refresh(layout=grown)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if self._run is None or y >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[y].copy()
        line.truncate(width, overflow="ellipsis", pad=True)
        if self._run["stages"][y]["name"] == self._selected:
            return Strip([Segment(line.plain, base + Style(reverse=True))], width)
        return strip_of(line).apply_style(base)

    def on_click(self, event: events.Click) -> None:
        if self._run is not None and event.y < len(self._run["stages"]):
            self.post_message(self.Picked(self._run["stages"][event.y]["name"]))
