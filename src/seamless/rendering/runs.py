"""One run as text: its header, its stages, and the block that says how it ended or what it waits for.

Pure functions from the API's JSON to lines. All text that came from outside goes through `plain`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from seamless.clock import age_in_words
from seamless.logtext import because, glyphs, plain
from seamless.model import COMMAND_STAGES, LOCAL_REF, short
from seamless.rendering import evidence
from seamless.rendering.folding import folded
from seamless.rendering.formats import duration, local_time, seconds_between

if TYPE_CHECKING:
    from seamless.wire import ApprovalJSON, CommitJSON, RunJSON, StageJSON

STYLES: Final = {
    "idle": "dim",
    "in_progress": "cyan",
    "awaiting_approval": "yellow",
    "success": "green",
    "failure": "red",
    "skipped": "dim",
    "cancelled": "yellow",
}
_WORDS: Final = {"failure": "failed", "skipped": "skipped", "cancelled": "cancelled"}
_NAME_WIDTH: Final = 17
_TIME_WIDTH: Final = 8
NOTE_COLUMN: Final = 4 + _NAME_WIDTH + 1 + _TIME_WIDTH + 2
"""Where the words about a stage begin."""
_BAR_WIDTH: Final = 20
_FACT_WIDTH: Final = 18
_SHOWN_COMMITS: Final = 3
_GAP: Final = "      "


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whom something is rendered, when, with which glyphs, and how wide."""

    name: str
    now: datetime
    glyphs: Mapping[str, str]
    width: int | None = None  # cells of a line; None: as long as it gets

    @classmethod
    def at_present(cls, name: str) -> Viewer:
        """For standard output, now."""
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        return cls(name, datetime.now(UTC), glyphs(sys.stdout.encoding), width)

    def glyph(self, state: str) -> str:
        return self.glyphs.get(state, "?")

    def call(self, user: str) -> str:
        """`you`, or the user's name."""
        return "you" if user == self.name else plain(user)


def header(run: RunJSON, viewer: Viewer, *, with_command: bool = False) -> Text:
    """`payment-42  main  9f3c2ab  "Retry card declines"  by you`; `with_command` adds how to see it again, where there
    is room for that at the right edge."""
    line = Text(no_wrap=True)
    line.append(run["id"], "bold")
    line.append(f"  {ref_name(run['ref'])}  {short(run['commit'])}")
    if run["subject"]:
        line.append(f"  {quoted(run['subject'], 60)}")
    line.append(f"  by {viewer.call(run['requested_by'])}")
    again = f"seamless show {run['id']}"
    if with_command and viewer.width is not None and (room := viewer.width - line.cell_len - len(again)) >= 2:
        line.append(" " * room + again, "dim")
    return line


def details(run: RunJSON, viewer: Viewer) -> list[Text]:
    """What else is known of a run: what started it, when, and what it repeats."""
    began = run["started_at"] or run["created_at"]
    seconds = seconds_between(run["started_at"], run["ended_at"], viewer.now)
    words = [
        f"trigger {run['trigger']}",
        f"{'started' if run['started_at'] else 'asked for'} {local_time(began)}",
        f"{'took' if run['ended_at'] else 'for'} {duration(seconds)}" if seconds is not None else "",
        f"again after {plain(run['rerun_of'])}" if run["rerun_of"] else "",
        being_cancelled(run),
    ]
    lines = [Text("  " + " · ".join(word for word in words if word), "dim", no_wrap=True)]
    if run["merge"]:
        lines.append(Text(f"  pull request: {plain(run['merge'])}"))
    return lines


def being_cancelled(run: RunJSON) -> str:
    """`being cancelled by ann: enough`; empty when it is not, or not any more."""
    asked = run["cancel_requested"]
    return f"being cancelled{because('cancelled', asked)}" if asked is not None and run["ended_at"] is None else ""


def stage_rows(run: RunJSON, viewer: Viewer) -> list[Text]:
    return [stage_row(stage, viewer) for stage in run["stages"]]


def stage_row(stage: StageJSON, viewer: Viewer) -> Text:
    """`  ✔ prepare            4.1 s  kept tree, 12 files changed`."""
    state = stage["state"]
    style = STYLES.get(state, "")
    seconds = seconds_between(stage["started_at"], stage["ended_at"], viewer.now)
    shown = duration(seconds) if seconds is not None and state != "idle" else ""
    line = Text(no_wrap=True)
    line.append(f"  {viewer.glyph(state)} ", style)
    line.append(f"{stage['name']:<{_NAME_WIDTH}}", "dim" if style == "dim" else "")
    line.append(f" {shown:>{_TIME_WIDTH}}  ")
    if state == "in_progress":
        _append_progress(line, seconds or 0.0, stage["usual_s"])
        if stage["attempt"] > 1:
            line.append(f"  attempt {stage['attempt']}", "yellow")
    elif word := _WORDS.get(state):
        line.append(word, style)
        line.append(because(word, stage["reason"]))
    said = " · ".join(evidence.notes(stage))
    if said:
        line.append(said if line.plain.endswith("  ") else f" · {said}", "dim")
    line.rstrip()
    return line


def _append_progress(line: Text, seconds: float, usual_s: float | None) -> None:
    """A bar that is full at the usual time; nothing when there is none to go by."""
    if not usual_s:
        line.append("running")
        return
    filled = min(_BAR_WIDTH, int(_BAR_WIDTH * seconds / usual_s))
    bar = "━" * filled + ("╸" if filled < _BAR_WIDTH else "")
    line.append(bar, "cyan")
    line.append(" " * (_BAR_WIDTH + 2 - len(bar)) + f"usually {duration(usual_s)}", "dim")


def ending(run: RunJSON, viewer: Viewer) -> list[Text]:
    """How the run ended, or what it waits for; nothing while it goes on."""
    match run["state"]:
        case "awaiting_approval":
            return approval_block(run, viewer)
        case "failure":
            return failure_block(run, viewer)
        case "cancelled":
            return _verdict("cancelled", f"{run['id']} was cancelled", run["reason"], viewer)
        case "success":
            return _verdict("success", f"{run['id']} succeeded{_after(run)}", _result(run), viewer)
        case _:
            return []


def _verdict(state: str, what: str, why: str | None, viewer: Viewer, note: str = "") -> list[Text]:
    line = Text.assemble((f"{viewer.glyph(state)} ", STYLES[state]), (what, "bold"), no_wrap=True)
    line.append(because(_WORDS.get(state, ""), why))
    line.append(f"{_GAP}({note})" if note else "")
    return folded(line, viewer.width, 2)


def _after(run: RunJSON) -> str:
    seconds = seconds_between(run["started_at"], run["ended_at"])
    return f" in {duration(seconds)}" if seconds is not None else ""


def _result(run: RunJSON) -> str | None:
    """What a successful run changed: the last environment that it deployed to."""
    for stage in reversed(run["stages"]):
        if stage["name"].startswith("deploy_") and stage["state"] == "success":
            environment = stage["name"].removeprefix("deploy_")
            if unproven := stage["detail"].get("unproven"):
                return f"{environment} has {short(run['commit'])}; {unproven}"
            address = stage["detail"].get("address")
            where = f" at {address}" if address else ""
            return f"{environment} runs {short(run['commit'])}{where}"
    return None


def failure_block(run: RunJSON, viewer: Viewer) -> list[Text]:
    """What failed, why, and what to do next."""
    failed = [stage for stage in run["stages"] if stage["state"] == "failure"]
    if not failed:
        return failure_facts(run, viewer)
    first = failed[0]
    commands = [f"seamless logs {run['id']} {first['name']}"]
    if _has_workspace(first):
        commands.append(f"seamless shell {run['id']}")
    if run["ref"] == LOCAL_REF:
        commands.append(f"seamless run {run['service']} --local …")
    else:
        commands.append(f"seamless rerun {run['id']} --from {first['name']}")
    return [*failure_facts(run, viewer), *_commands(commands, viewer)]


def _has_workspace(stage: StageJSON) -> bool:
    """Whether a shell can look at what the failed stage left. A prepare without an exit code did not get that far."""
    return stage["name"] in COMMAND_STAGES and (stage["name"] != "prepare" or stage["exit_code"] is not None)


def failure_facts(run: RunJSON, viewer: Viewer) -> list[Text]:
    """What failed and why; one paragraph for each stage that failed."""
    failed = [stage for stage in run["stages"] if stage["state"] == "failure"]
    if not failed:
        return _verdict("failure", f"{run['id']} failed", run["reason"], viewer)
    lines: list[Text] = []
    for stage in failed:
        seconds = seconds_between(stage["started_at"], stage["ended_at"], viewer.now)
        took = f" after {duration(seconds)}" if seconds is not None else ""
        what, why = f"{run['id']} failed in {stage['name']}{took}", stage["reason"] or "no reason is known"
        lines += _verdict("failure", what, why, viewer, evidence.test_counts(stage["detail"].get("tests")))
        for name, message in evidence.failed_tests(stage["detail"].get("tests")):
            lines.append(Text(f"  {name}"))
            lines.extend(Text(f"      {part}", "dim") for part in message.splitlines())
        lines.extend(Text(f"  {line}") for line in evidence.explanation(stage))
    return lines


def approval_block(run: RunJSON, viewer: Viewer) -> list[Text]:
    """What the approval would let through, and the two commands that answer it."""
    approval = run["approval"]
    if approval is None:
        return approval_facts(run, viewer)
    name = run["id"] if approval["lets_through"] == "checks" else run["service"]
    release = " --release" if approval["hold"] else ""
    commands = [f"seamless approve {name}{release}", f'seamless reject {name} --why "…"']
    expires = f"expires {local_time(approval['expires_at'])}"
    return [*approval_facts(run, viewer), *_commands(commands, viewer, expires)]


def approval_facts(run: RunJSON, viewer: Viewer) -> list[Text]:
    """What the approval would let through."""
    approval = run["approval"]
    if approval is None:
        return _verdict("awaiting_approval", f"{run['id']} is waiting for approval", run["reason"], viewer)
    fork = approval["lets_through"] == "checks"
    facts = _facts_of_fork(run, approval, viewer) if fork else _facts_of_release(run, approval, viewer)
    if hold := approval["hold"]:
        facts.append(("on hold", f"{quoted(hold['why'], 60)} ({viewer.call(hold['by'])})"))
    lines = _verdict("awaiting_approval", f"{run['id']} is waiting for approval", approval["why"], viewer)
    for fact, text in facts:
        line = Text.assemble("  ", (f"{fact:<{_FACT_WIDTH}}", "dim"), text, no_wrap=True)
        lines += folded(line, viewer.width, 2 + _FACT_WIDTH)
    return lines


def _facts_of_release(run: RunJSON, approval: ApprovalJSON, viewer: Viewer) -> list[tuple[str, str]]:
    facts = [("staging moved on", _commit(approval["staging"], viewer))] if approval["staging"] else []
    facts += [
        ("production today", _commit(approval["production"], viewer)),
        ("would become", f"{short(run['commit'])}  {_commits_since(run, approval, viewer)}"),
    ]
    if image := approval["image"]:
        facts.append(("image", short_digest(image["digest"])))
    if tested_against := evidence.join_peers(approval["tested_against"]):
        facts.append(("tested against", tested_against))
    if approval["task_definition"]:
        lines = approval["task_definition"].splitlines()
        facts += [("" if number else "task definition", plain(line)) for number, line in enumerate(lines)]
    return facts


def _facts_of_fork(run: RunJSON, approval: ApprovalJSON, viewer: Viewer) -> list[tuple[str, str]]:
    stages = ", ".join(stage["name"] for stage in run["stages"])
    return [
        ("source", f"{ref_name(run['ref'])}  {_counted(approval['commits'], viewer)}"),
        ("would run", f"{stages}, without secrets and caches"),
    ]


def _commit(commit: CommitJSON | None, viewer: Viewer) -> str:
    if commit is None:
        return "nothing"
    seconds = seconds_between(commit["committed_at"], None, viewer.now) or 0.0
    author = viewer.call(commit["author"])
    return f"{short(commit['commit'])}  {quoted(commit['subject'], 40)} ({author}, {age_in_words(seconds)} old)"


def _commits_since(run: RunJSON, approval: ApprovalJSON, viewer: Viewer) -> str:
    commits = approval["commits"]
    if approval["production"] is None:
        return f"{quoted(run['subject'], 40)} ({viewer.call(run['author'])})"
    if not approval["commits_known"]:
        return "the commits between are not known: production's is not among its ancestors"
    return _counted(commits, viewer)


def _counted(commits: Sequence[CommitJSON], viewer: Viewer) -> str:
    if not commits:
        return "no new commits"
    count = "1 commit" if len(commits) == 1 else f"{len(commits)} commits"
    named = [f"{quoted(one['subject'], 40)} ({viewer.call(one['author'])})" for one in commits[:_SHOWN_COMMITS]]
    rest = [f"and {len(commits) - _SHOWN_COMMITS} more"] if len(commits) > _SHOWN_COMMITS else []
    return f"{count}: {', '.join([*named, *rest])}"


def _commands(commands: Sequence[str], viewer: Viewer, note: str = "") -> list[Text]:
    """On one line where that is wide enough, else on one each."""
    parts = [Text(command, "cyan") for command in commands] + ([Text(note, "dim")] if note else [])
    line = Text("  ", no_wrap=True).append_text(Text(_GAP).join(parts))
    if viewer.width is None or line.cell_len <= viewer.width:
        return [line]
    return [Text("  ", no_wrap=True).append_text(part) for part in parts]


def short_digest(digest: str) -> str:
    """`sha256:4be1…97c`."""
    kind, _, value = digest.partition(":")
    return f"{kind}:{value[:4]}…{value[-3:]}" if value else plain(digest)


def brief_ref(ref: str) -> str:
    """An image as people tell it from others: `registry/payment@sha256:0123456789ab`."""
    before, kind, value = plain(ref).partition("sha256:")
    return f"{before}{kind}{value[:12]}"


def ref_name(ref: str) -> str:
    """A ref as people name it: `main`, `#17`, `v1.2`, `local`."""
    for prefix in ("refs/heads/", "refs/tags/"):
        if ref.startswith(prefix):
            return plain(ref.removeprefix(prefix))
    if ref.startswith("refs/pull/"):
        return "#" + plain(ref.split("/")[2])
    return plain(ref)


def quoted(text: str, width: int) -> str:
    """One line of someone's text in quotation marks, at most `width` cells of it."""
    return f'"{cut(text, width)}"'


def cut(text: str, width: int) -> str:
    """One line of a text, at most `width` cells of it."""
    line = plain(text).partition("\n")[0]
    return line if cell_len(line) <= width else f"{set_cell_size(line, width - 1).rstrip()}…"
