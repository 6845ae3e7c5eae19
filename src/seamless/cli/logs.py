"""`seamless logs`: what the stages of a run wrote."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from seamless.cli import completing
from seamless.cli.session import Session, print_json_line, session_of
from seamless.errors import SeamlessError, UsageError

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import RunJSON

    Batch = tuple[str, list[str]]

app = typer.Typer()
_WAITING_BATCHES: Final = 256  # read ahead of what a slow reader of our output has taken
_ENDED: Final = ("success", "failure", "cancelled")
_LAST_LINES_S: Final = 30.0


@app.command()
def logs(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", autocompletion=completing.runs, help="A run, or a service for its latest run."),
    ],
    stage: Annotated[
        str | None,
        typer.Argument(
            metavar="[STAGE]", autocompletion=completing.stages, help="Default: all, in order.", show_default=False
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the stage, or the run, has ended.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The stored bytes, into a pipe or a file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of NDJSON for each line.")] = False,
) -> None:
    """Show what the stages of a run wrote.

    \b
    Examples:
      seamless logs payment-42
      seamless logs payment-42 unit_test
      seamless logs payment -f
      seamless logs payment-42 build --raw > build.log
    """
    if raw and as_json:
        raise UsageError("--raw writes bytes and --json lines: give one of them")
    if raw and sys.stdout.isatty():
        raise UsageError(
            "--raw writes bytes as they are stored, which could drive your terminal",
            hint=f"Pipe it: seamless logs {run} {stage or ''} --raw | less".replace("  ", " "),
        )
    session = session_of(context)
    with session.agent() as agent:
        found = agent.run(run)
        if stage is not None and stage not in [one["name"] for one in found["stages"]]:
            has = ", ".join(one["name"] for one in found["stages"])
            raise UsageError(f"{found['id']} has no stage {stage}", hint=f"It has {has}")
        if stage is not None and not follow:
            _tell_of_none(found, stage)
        if raw:
            _write_raw(agent, found, stage, follow)
        else:
            _write_lines(session, found["id"], _batches(session, agent, found, stage, follow), found, stage, as_json)


def _tell_of_none(run: RunJSON, name: str) -> None:
    """Says on standard error why a stage has no log, if it has not run."""
    from seamless.logtext import plain

    stage = next(one for one in run["stages"] if one["name"] == name)
    if stage["started_at"] is not None:
        return
    what = f"{name} of {run['id']}"
    if kept := stage["detail"].get("kept_from"):
        told = f"{what} was kept. Its log: seamless logs {kept} {name}"
    elif stage["state"] == "idle":
        told = f"{what} has not started"
    else:
        told = f"{what} did not run: {stage['reason'] or stage['state']}"
    print(f"seamless: {plain(told)}", file=sys.stderr)


def _started(run: RunJSON, stage: str | None) -> list[str]:
    """The stages that are wanted and may have a log."""
    if stage is not None:
        return [stage]
    return [one["name"] for one in run["stages"] if one["started_at"] is not None]


def _write_raw(agent: Client, run: RunJSON, stage: str | None, follow: bool) -> None:
    stages = [stage] if stage else [one["name"] for one in run["stages"]] if follow else _started(run, None)
    for name in stages:
        chunks = agent.follow_log(run["id"], name) if follow else agent.log(run["id"], name)
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            if follow:
                sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()


def _batches(session: Session, agent: Client, run: RunJSON, stage: str | None, follow: bool) -> Iterator[Batch]:
    """(stage, lines) as they come; stage after stage, except when several are followed at once."""
    from seamless.cli.lines import lines_of

    if follow and stage is None:
        yield from _followed(agent, run, colour=session.has_colors)
        return
    for name in _started(run, stage):
        chunks = agent.follow_log(run["id"], name) if follow else agent.log(run["id"], name)
        for lines in lines_of(chunks, colour=session.has_colors):
            yield name, lines


def _write_lines(
    session: Session, run_id: str, batches: Iterator[Batch], run: RunJSON, stage: str | None, as_json: bool
) -> None:
    from seamless.cli.lines import prefix_width, stage_prefix

    width = prefix_width(run)
    for name, lines in batches:
        if as_json:
            for line in lines:
                print_json_line({"run": run_id, "stage": name, "line": line})
            continue
        prefix = "" if stage else stage_prefix(name, width, colour=session.has_colors)
        sys.stdout.write("".join(f"{prefix}{line}\n" for line in lines))
        sys.stdout.flush()


def _followed(agent: Client, run: RunJSON, *, colour: bool) -> Iterator[Batch]:
    """The lines of all stages as they are written, until the run has ended. None is left out for a slow reader."""
    from seamless.cli.lines import Tails

    batches: queue.Queue[Batch | SeamlessError | None] = queue.Queue(_WAITING_BATCHES)
    tails = Tails(agent, run["id"], lambda stage, lines: batches.put((stage, lines)), colour=colour)

    def follow_stages() -> None:
        try:
            for event in agent.stream_events(run=run["id"], after=0):
                if event["kind"] == "stage" and event["stage"] and event["to_state"] == "in_progress":
                    tails.follow(event["stage"])
                if event["kind"] == "run" and event["to_state"] in _ENDED:
                    break
            tails.wait(_LAST_LINES_S)
            batches.put(None)
        except SeamlessError as error:
            batches.put(error)

    threading.Thread(target=follow_stages, name="events", daemon=True).start()
    while (batch := batches.get()) is not None:
        if isinstance(batch, SeamlessError):
            raise batch
        yield batch
