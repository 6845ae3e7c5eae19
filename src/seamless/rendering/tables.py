"""Lists as tables: the fleet, runs, images, services. Pure functions from the API's JSON to lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from seamless.logtext import plain, word
from seamless.model import short
from seamless.rendering.folding import folded
from seamless.rendering.formats import age, age_of, duration, seconds_between
from seamless.rendering.runs import STYLES, Viewer, brief_ref, cut, quoted, ref_name

if TYPE_CHECKING:
    from seamless.wire import HeadJSON, HoldJSON, ImageJSON, ReleaseJSON, RunJSON, ServiceJSON, ServiceStatusJSON

Cell = str | Text
_GAP: Final = "  "
_SHOWN_REASON: Final = 40  # cells of why something is red
_GIVE_WAY: Final = ("took", "trigger", "ref")  # columns of runs, on a screen that leaves their subjects no room
_SUBJECT: Final = 20  # cells of it that are worth having
DURATIONS: Final = frozenset(
    (
        *("approval_timeout", "before_deploy_timeout", "deploy_timeout", "run_timeout", "stage_timeout"),
        *("keep_failed", "poll_interval"),
    )
)
"""Parameters in seconds."""
SIZES: Final = frozenset(["memory"])
"""Parameters in bytes."""


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[Text]:
    """Columns as wide as their widest cell, the last one as long as it is. See `table_within` for a screen's width."""
    return [line for line, _ in _aligned(header, rows)]


def table_within(width: int | None, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[Text]:
    """As `table`; what is too long for the screen goes on below, in the last column."""
    return [row for line, last in _aligned(header, rows) for row in folded(line, width, last)]


def _aligned(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[tuple[Text, int]]:
    """Each line, and where its last column begins."""
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    titles = [Text(title, "dim") for title in header]
    widths = [max(row[column].cell_len for row in [titles, *cells]) for column in range(len(header))]
    lines = []
    for row in [titles, *cells]:
        line = Text(no_wrap=True)
        for cell, width in zip(row, widths, strict=True):
            line.append_text(cell).append(" " * (width - cell.cell_len) + _GAP)
        line.rstrip()
        lines.append((line, sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)))
    return lines


def status_table(services: Sequence[ServiceStatusJSON], viewer: Viewer) -> list[Text]:
    """A line for each service: what is the newest commit, what runs where since when, what happens now."""
    rows: list[list[Cell]] = [
        [
            plain(service["service"]),
            head_cell(service["head"]),
            *release_cells(service["staging"], viewer),
            *release_cells(service["production"], viewer),
            now_text(service, viewer),
        ]
        for service in services
    ]
    return table_within(viewer.width, ["service", "head", "staging", "", "production", "", "now"], rows)


def head_cell(head: HeadJSON | None) -> str:
    return short(head["commit"]) if head else "-"


def release_cells(release: ReleaseJSON | None, viewer: Viewer) -> tuple[Cell, Cell]:
    """Commit and age. A deployment that cannot be vouched for is marked."""
    if release is None:
        return "-", ""
    commit = short(release["commit"])
    known = Text(commit) if release["state"] == "success" else Text(f"{commit} {word(release['state'])}", "yellow")
    return known, Text(f"{age_of(release['deployed_at'], viewer.now):>4}", "dim")


def now_text(service: ServiceStatusJSON, viewer: Viewer, at_rest: Text | None = None) -> Text:
    """What happens to a service, most urgent first; when nothing does `at_rest`, by default a check mark."""
    parts = [("in_progress", f"{run['id']} {_progress(run, viewer)}", "cyan") for run in service["running"]]
    if waiting := service["waiting"]:
        since = age_of(waiting_since(waiting), viewer.now)
        parts.append(("awaiting_approval", f"waiting for approval  {waiting['id']}  ({since})", "yellow"))
    if hold := service["hold"]:
        parts.append(("on_hold", _hold_text(hold, viewer), "yellow"))
    if red := service["red_since"]:
        where = plain(" ".join(part for part in (red["run"], red["stage"]) if part))
        why = f", {cut(red['reason'], _SHOWN_REASON)}" if red["reason"] else ""
        parts.append(("failure", f"red for {age_of(red['since'], viewer.now)}: {where}{why}", "red"))
    parts += [("unknown", text, "yellow") for text in _drifts(service)]
    if service["problem"]:  # whole: it says what to do, and no other command tells of it
        parts.append(("unknown", plain(service["problem"]), "red"))
    if not parts and service["last"] is None:
        return Text("no runs yet", "dim")
    if not parts:
        return at_rest or Text(viewer.glyph("success"), "green")
    return Text("  ·  ").join(Text(f"{viewer.glyph(state)} {text}".rstrip(), style) for state, text, style in parts)


def _hold_text(hold: HoldJSON, viewer: Viewer) -> str:
    """A rollback says by itself why; a person did."""
    by = viewer.call(hold["by"])
    if hold["commit"]:
        return f"on hold since {short(hold['commit'])} was restored ({by})"
    return f"on hold: {quoted(hold['why'], 40)} ({by})"


def _drifts(service: ServiceStatusJSON) -> list[str]:
    """Where something else runs than what was deployed, or where that cannot be read."""
    places = (("staging", service["staging"]), ("production", service["production"]))
    return [f"{place} {plain(release['drift'])}" for place, release in places if release and release["drift"]]


def now_briefly(service: ServiceStatusJSON, viewer: Viewer, at_rest: Text | None = None) -> Text:
    """As `now_text`, for a column of some thirty cells."""
    parts = [("in_progress", f"{run['id']} {_progress(run, viewer)}", "cyan") for run in service["running"]]
    if waiting := service["waiting"]:
        since = age_of(waiting_since(waiting), viewer.now)
        parts.append(("awaiting_approval", f"approval? {waiting['id']} {since}", "yellow"))
    if red := service["red_since"]:
        where = plain(" ".join(part for part in (red["run"], red["stage"]) if part))
        parts.append(("failure", f"red {age_of(red['since'], viewer.now)} {where}", "red"))
    if hold := service["hold"]:
        parts.append(("on_hold", f"on hold {quoted(hold['why'], 40)}", "yellow"))
    parts += [("unknown", text, "yellow") for text in _drifts(service)]
    if service["problem"]:
        parts.append(("unknown", plain(service["problem"]), "red"))
    if not parts:
        return now_text(service, viewer, at_rest)
    return Text(" · ").join(Text(f"{viewer.glyph(state)} {text}".rstrip(), style) for state, text, style in parts)


def waiting_since(run: RunJSON) -> str:
    """When the last of its stages ended; of a run that waits before its first, when it was created."""
    return max([stage["ended_at"] for stage in run["stages"] if stage["ended_at"]] or [run["created_at"]])


def _progress(run: RunJSON, viewer: Viewer) -> str:
    """The stages that run now, with the time of the one that has run longest; "queued" before there is any."""
    active = [stage for stage in run["stages"] if stage["state"] == "in_progress"]
    if not active:
        return "queued" if run["state"] == "idle" else ""
    longest = max(seconds_between(stage["started_at"], None, viewer.now) or 0.0 for stage in active)
    return f"{', '.join(stage['name'] for stage in active)} {duration(longest)}"


def runs_table(runs: Sequence[RunJSON], viewer: Viewer) -> list[Text]:
    """A line for each run. On a narrow screen some columns give way to the subject, and what is too long of that is
    left out."""
    header = ["run", "state", "trigger", "ref", "commit", "age", "took", "by", "subject"]
    rows: list[list[Cell]] = [
        [
            plain(run["id"]),
            run_state(run["state"], viewer),
            run["trigger"],
            ref_name(run["ref"]),
            short(run["commit"]),
            age_of(run["created_at"], viewer.now),
            took(run, viewer),
            viewer.call(run["requested_by"]),
            quoted(run["subject"], 50) if run["subject"] else "",
        ]
        for run in runs
    ]
    for column in _GIVE_WAY:
        if viewer.width is None or _aligned(header, rows)[0][1] + _SUBJECT <= viewer.width:
            break
        at = header.index(column)
        header = header[:at] + header[at + 1 :]
        rows = [row[:at] + row[at + 1 :] for row in rows]
    lines = table(header, rows)
    for line in lines:
        line.truncate(viewer.width or line.cell_len, overflow="ellipsis")
    return lines


def state_text(state: str, viewer: Viewer) -> Text:
    return Text(f"{viewer.glyph(state)} {word(state)}", STYLES.get(state, ""))


def run_state(state: str, viewer: Viewer) -> Text:
    """As `state_text`, for a column of a list of runs: what waits asks a question, which is also shorter."""
    if state == "awaiting_approval":
        return Text(f"{viewer.glyph(state)} approval?", STYLES.get(state, ""))
    return state_text(state, viewer)


def took(run: RunJSON, viewer: Viewer) -> str:
    seconds = seconds_between(run["started_at"], run["ended_at"], viewer.now)
    return "" if seconds is None else duration(seconds) if run["ended_at"] else age(seconds)


def images_table(images: Sequence[ImageJSON], viewer: Viewer) -> list[Text]:
    return table(
        ["commit", "built", "run", "runs in", "deployable", "image"],
        [
            [
                short(image["commit"]),
                f"{age_of(image['built_at'], viewer.now)} ago",
                plain(image["run"]),
                ", ".join(image["environments"]) or "-",
                "yes" if image["deployable"] else "no",
                brief_ref(image["ref"]),
            ]
            for image in images
        ],
    )


def services_table(services: Sequence[ServiceJSON]) -> list[Text]:
    return table(
        ["service", "branch", "triggers", "repository"],
        [
            [
                plain(service["name"]),
                plain(service["branch"]),
                ", ".join(service["triggers"]),
                plain(service["repo"] + (f" ({service['path']})" if service["path"] else "")),
            ]
            for service in services
        ],
    )


def parameters_table(parameters: Mapping[str, Any], sources: Mapping[str, str], viewer: Viewer) -> list[Text]:
    """The resolved parameters of a service, each with where it comes from. Of tables in tables only what is set.

    `sources` are by dotted name, as the API gives them.
    """
    rows = []
    for name, source in sources.items():
        value = _at(parameters, name)
        if "." not in name or source != "default" or value not in (None, "", {}, []):
            rows.append([plain(name), plain(source), plain(_value(name, value))])
    return table_within(viewer.width, ["parameter", "from", "value"], rows)


def _at(table: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name, whose parts are in quotation marks where TOML needs them."""
    for key, value in table.items():
        for written in (key, f'"{key}"'):
            if name == written:
                return value
            if name.startswith(f"{written}.") and isinstance(value, Mapping):
                return _at(value, name.removeprefix(f"{written}."))
    return None


def _value(name: str, value: object) -> str:
    """As one would write it in the configuration, more or less, on one line."""
    from seamless.config import format_duration, format_size

    last = name.rpartition(".")[2]
    if isinstance(value, float) and last in DURATIONS:
        return format_duration(value)
    if isinstance(value, int) and last in SIZES:
        return format_size(value)
    return _written(value)


def _written(value: object) -> str:
    match value:
        case None:
            return "-"
        case str():
            return repr(value) if "\n" in value or not value else value
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(_written(one) for one in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{key} = {_written(one)}" for key, one in value.items()) + " }" if value else "{}"
        case _:
            return str(value)
