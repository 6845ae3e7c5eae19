"""What a run tells beside its stages: how it ended and why, failed tests, what it was tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from seamless.rendering import evidence
from seamless.rendering.runs import (
    Viewer,
    approval_facts,
    being_cancelled,
    details,
    ending,
    failure_facts,
    header,
    stage_rows,
)
from seamless.tui.approval import letting_through, peer_lines

if TYPE_CHECKING:
    from seamless.wire import RunJSON


def verdict(run: RunJSON, viewer: Viewer) -> list[Text]:
    """How it ended and why, or what it waits for; the reason first."""
    match run["state"]:
        case "failure":
            return failure_facts(run, viewer)
        case "awaiting_approval":
            return approval_facts(run, viewer)
        case "in_progress" if told := being_cancelled(run):
            return [Text(told, "yellow")]
        case _:
            return ending(run, viewer)


def proof(run: RunJSON) -> list[Text]:
    """Failed tests first, then what the stages ran against."""
    lines: list[Text] = []
    for stage in run["stages"]:
        tests = stage["detail"].get("tests")
        found = evidence.all_failed_tests(tests)
        if found:
            lines.append(Text(f"Failed tests of {stage['name']} ({evidence.test_counts(tests)})", "bold"))
        for name, message in found:
            lines.append(Text(f"  {name}", "red"))
            lines.extend(Text(f"      {line}") for line in message.splitlines())
        lines += [Text()] if found else []
    for stage in run["stages"]:
        told = evidence.explanation(stage)
        lines += (
            [Text(f"{stage['name']} explains", "bold"), *(Text(f"  {line}") for line in told), Text()] if told else []
        )
    for stage in run["stages"]:
        peers = [peer for peer in stage["detail"].get("peers") or [] if isinstance(peer, dict)]
        if peers:
            lines.append(Text(f"{stage['name']} ran against", "bold"))
            lines += [*peer_lines(peers), Text()]
    return lines


def all_evidence(run: RunJSON, viewer: Viewer) -> list[Text]:
    """Everything that a run tells."""
    told = letting_through(run, viewer) if run["approval"] else verdict(run, viewer)
    if run["state"] == "failure":
        told = [line for line in told if not line.plain.startswith(" ")]  # the tests follow, all of them
    lines = [
        header(run, viewer),
        *details(run, viewer),
        Text(),
        *told,
        Text(),
        *proof(run),
        Text("Stages", "bold"),
        *stage_rows(run, viewer),
    ]
    return folded(lines)


def folded(lines: list[Text]) -> list[Text]:
    """Too long ones go on in the next row."""
    for line in lines:
        line.no_wrap, line.overflow = False, "fold"
    return lines
