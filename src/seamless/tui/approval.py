"""What an approval lets through, and the word for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from seamless.logtext import plain
from seamless.model import short
from seamless.rendering.formats import age_of, local_time
from seamless.rendering.runs import Viewer, approval_facts
from seamless.rendering.tables import table
from seamless.tui.dialogs import Question

if TYPE_CHECKING:
    from seamless.tui.acting import ActingRoom
    from seamless.wire import RunJSON

_COMMITS: Final = 50
_DIGEST: Final = 19  # cells: `sha256:` and twelve more


async def approve(room: ActingRoom, run: RunJSON) -> None:
    """Ask for the word, and give it to the agent."""
    approval = run["approval"]
    fork = approval is not None and approval["lets_through"] == "checks"
    choices = {}
    if approval and approval["hold"]:
        choices["release"] = "end the hold, once this deployment has succeeded"
    if approval and not fork and approval["production"] and not approval["commits_known"]:
        choices["rewritten"] = "although production's commit is not among the ancestors"
    answer = await room.question(
        Question(
            f"Approve the checks of {run['id']}?" if fork else f"Approve {run['id']} for production?",
            letting_through(run, room.home.viewer()),
            do="Approve",
            other="Reject",
            choices=choices,
        )
    )
    if answer is None:
        return
    if answer.button == "other":
        await room.reject(run)
        return
    approved = await room.attempt(
        lambda agent: agent.approve(
            run["id"], release="release" in answer.ticked, allow_rewritten="rewritten" in answer.ticked
        )
    )
    if approved:
        room.say(f"{run['id']} is approved")
        room.open_run(run["id"])


def letting_through(run: RunJSON, viewer: Viewer) -> list[Text]:
    """All that is known of it: each commit, the whole digest, what it was tested against, the task definition."""
    approval = run["approval"]
    lines = approval_facts(run, viewer)
    if approval is None:
        return lines
    commits = approval["commits"]
    if len(commits) > 1 or (commits and approval["production"]):
        lines += [Text(), Text("Commits", "bold")]
        for one in commits[:_COMMITS]:
            ago = age_of(one["committed_at"], viewer.now)
            lines.append(
                Text(f"  {short(one['commit'])}  {plain(one['subject'])}  ({viewer.call(one['author'])}, {ago})")
            )
    if image := approval["image"]:
        lines += [Text(), Text("Image", "bold"), Text(f"  {plain(image['digest'])}")]
    if approval["tested_against"]:
        lines += [Text(), Text("Tested against", "bold")]
        lines += peer_lines(approval["tested_against"])
    if approval["task_definition"]:
        lines += [Text(), Text("Task definition", "bold")]
        lines += [Text(f"  {plain(line)}") for line in approval["task_definition"].splitlines()]
    return [*lines, Text(), Text(f"Expires {local_time(approval['expires_at'])}", "dim")]


def peer_lines(peers: Sequence[Mapping[str, object]]) -> list[Text]:
    """`  notification  1e930b4  production  sha256:1234567890ab`, a line for each, in columns."""
    rows = []
    for peer in peers:
        name = peer.get("service") or peer.get("compose_service")
        if peer.get("source") == "file":
            rows.append([plain(str(name)), "", "as the Compose file says", ""])
            continue
        commit, digest = peer.get("commit"), str(peer.get("digest") or "")[:_DIGEST]
        known = [name, short(str(commit)) if commit else "", peer.get("source"), digest]
        rows.append([plain(str(one or "")) for one in known])
    return [Text("  ").append_text(line) for line in table([""] * 4, rows)[1:]]
