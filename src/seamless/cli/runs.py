"""Runs: start one, list them, show one, cancel, run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seamless.cli import completing
from seamless.cli.deploys import AsJson, Detach, show_or_follow
from seamless.cli.session import print_json, session_of, user_name
from seamless.errors import UsageError
from seamless.transitions import RunState

if TYPE_CHECKING:
    from seamless.cli.session import Session
    from seamless.client import Client
    from seamless.wire import RunJSON
    from seamless.wire_plans import PlanJSON

app = typer.Typer()
RunName = Annotated[
    str, typer.Argument(metavar="RUN", autocompletion=completing.runs, help="A run, or a service for its latest run.")
]


@app.command()
def run(
    context: typer.Context,
    service: completing.Service,
    ref: Annotated[
        str | None,
        typer.Option("--ref", metavar="REF", show_default=False, help="Branch, tag or commit. Default: its branch."),
    ] = None,
    pull_request: Annotated[
        int | None,
        typer.Option("--pr", metavar="N", min=1, show_default=False, help="A pull request, merged onto the branch."),
    ] = None,
    checks: Annotated[bool, typer.Option("--checks", help="Only prepare, code_quality and unit_test.")] = False,
    staging: Annotated[bool, typer.Option("--staging", help="Deploy another ref than the branch to staging.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build a new image although there is one.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would do, and do nothing.")] = False,
    local: Annotated[
        Path | None,
        typer.Option("--local", metavar="PATH", show_default=False, help="Check this working tree, changes and all."),
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline for a service and follow it.

    Ends with 0 when the run has succeeded, 1 when it failed or was cancelled, 4 when it waits for approval.
    Ctrl-C ends the command, not the run.

    \b
    Examples:
      seamless run payment
      seamless run payment --ref feature/retry --staging
      seamless run payment --pr 17
      seamless run payment --plan
      seamless run payment --local .
    """
    if local is not None and (ref or pull_request or staging or rebuild):
        raise UsageError("--local runs the checks on a working tree: it takes no --ref, --pr, --staging or --rebuild")
    if pull_request is not None and (ref or checks or staging or rebuild):
        raise UsageError("--pr runs what pull requests run: it takes no --ref, --checks, --staging or --rebuild")
    if plan and (local is not None or pull_request is not None):
        raise UsageError("--plan is of a branch, tag or commit: it takes no --local or --pr")
    session = session_of(context)
    with session.agent() as agent:
        if plan:
            _show_plan(
                session, agent.plan(service, ref=ref, checks=checks, staging=staging, rebuild=rebuild), as_json=as_json
            )
            return
        if local is not None:
            started = _start_local(agent, service, local)
        else:
            started = agent.start_run(
                service, ref=ref, pull_request=pull_request, checks=checks, staging=staging, rebuild=rebuild
            )
        raise typer.Exit(show_or_follow(session, agent, started, detach=detach, as_json=as_json))


def _show_plan(session: Session, plan: PlanJSON, *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    from seamless.rendering.plans import plan_lines

    for line in plan_lines(plan):
        session.console.print(line)


def _start_local(agent: Client, service: str, path: Path) -> RunJSON:
    from seamless.cli.tree import head_of, root_of, tar_of

    root = root_of(path)
    return agent.start_local_run(service, tar_of(root), commit=head_of(root))


@app.command("runs")
def list_runs(
    context: typer.Context,
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="[SERVICE]",
            autocompletion=completing.services,
            show_default=False,
            help="Of this service. Default: of all.",
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            show_default=False,
            help="idle, in_progress, awaiting_approval, success, failure or cancelled.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="The newest N.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List runs, newest first.

    \b
    Examples:
      seamless runs
      seamless runs payment --state failure
    """
    if state is not None and state not in list(RunState):
        raise UsageError(f"there is no state {state!r}", hint=f"one of {', '.join(RunState)}")
    session = session_of(context)
    with session.agent() as agent:
        found = agent.runs(service=service, state=state, limit=limit)
    if as_json:
        print_json(found)
        return
    from seamless.rendering.runs import Viewer
    from seamless.rendering.tables import runs_table

    if not found:
        print("no runs")
    for line in runs_table(found, Viewer.at_present(user_name())) if found else []:
        session.console.print(line)


@app.command()
def show(
    context: typer.Context,
    run: RunName,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show a run and what to do next.

    Its stages, and how it ended, or what it waits for and what an approval would let through.

    \b
    Examples:
      seamless show payment-42
      seamless show payment --json
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.run(run)
    if as_json:
        print_json(found)
        return
    from seamless.rendering.folding import folded
    from seamless.rendering.runs import NOTE_COLUMN, Viewer, details, ending, header, stage_rows

    viewer = Viewer.at_present(user_name())
    rows = [row for stage in stage_rows(found, viewer) for row in folded(stage, viewer.width, NOTE_COLUMN)]
    for line in [header(found, viewer), *details(found, viewer), *rows, *ending(found, viewer)]:
        session.console.print(line)


@app.command()
def cancel(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", autocompletion=completing.runs, help="A run, or a service for its newest active one."
        ),
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", show_default=False, help="Kept with the run.")] = "",
) -> None:
    """Cancel a run. A deploy that has begun is rolled back first.

    \b
    Example:
      seamless cancel payment-42 --why "the wrong branch"
    """
    with session_of(context).agent() as agent:
        cancelled = agent.cancel(run, why)
    if cancelled["state"] == "cancelled":
        print(f"{cancelled['id']} is cancelled")
    else:
        print(f"{cancelled['id']} is being cancelled. seamless show {cancelled['id']} tells how far that is")


@app.command()
def rerun(
    context: typer.Context,
    run: RunName,
    from_stage: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            autocompletion=completing.stages,
            show_default=False,
            help="Keep what succeeded and does not come after this stage.",
        ),
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Run a run's commit again, and follow that.

    It is a new run, on today's parameters.

    \b
    Examples:
      seamless rerun payment-43
      seamless rerun payment-43 --from unit_test
    """
    session = session_of(context)
    with session.agent() as agent:
        started = agent.rerun(run, from_stage=from_stage)
        raise typer.Exit(show_or_follow(session, agent, started, detach=detach, as_json=as_json))
