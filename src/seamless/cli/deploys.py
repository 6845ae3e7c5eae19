"""What opens and closes the way to production: approve, reject, promote, rollback, hold, release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seamless.cli import completing
from seamless.cli.session import Session, print_json, session_of
from seamless.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import RunJSON

app = typer.Typer()
AsJson = Annotated[bool, typer.Option("--json", help="Events as NDJSON, the run on the last line.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not follow the run.")]
Release = Annotated[bool, typer.Option("--release", help="End the service's hold, once this deployment has succeeded.")]
Rewritten = Annotated[
    bool, typer.Option("--allow-rewritten", help="Although production's commit is not among the ancestors.")
]


@app.command()
def approve(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            autocompletion=completing.runs,
            show_default=False,
            help="A run, or a service for its waiting one. Default: the only one.",
        ),
    ] = None,
    release: Release = False,
    allow_rewritten: Rewritten = False,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Let a run that waits go on, and follow it.

    What the approval lets through: seamless show RUN. Ends as seamless run does.

    \b
    Examples:
      seamless approve
      seamless approve payment
      seamless approve payment --release
    """
    from seamless.cli.follow import last_event

    session = session_of(context)
    with session.agent() as agent:
        name = run or _only_waiting(agent)
        approved = agent.approve(name, release=release, allow_rewritten=allow_rewritten)
        after = 0 if detach else last_event(agent, approved["id"], "approve")
        raise typer.Exit(show_or_follow(session, agent, approved, after=after, detach=detach, as_json=as_json))


@app.command()
def reject(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", autocompletion=completing.runs, help="A run, or a service for its waiting one."),
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Kept with the run.")],
) -> None:
    """Turn down a run that waits for approval.

    The run is cancelled.

    \b
    Example:
      seamless reject payment --why "wait until the sale is over"
    """
    with session_of(context).agent() as agent:
        rejected = agent.reject(run, why)
    print(f"{rejected['id']} is rejected")


@app.command()
def promote(
    context: typer.Context,
    service: completing.Service,
    release: Release = False,
    allow_rewritten: Rewritten = False,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Deploy to production what staging runs.

    Counts as the approval. Follows the run, and ends as seamless run does.

    \b
    Example:
      seamless promote payment
    """
    session = session_of(context)
    with session.agent() as agent:
        run = agent.promote(service, release=release, allow_rewritten=allow_rewritten)
        raise typer.Exit(show_or_follow(session, agent, run, detach=detach, as_json=as_json))


@app.command()
def rollback(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="SHA", help="Any unambiguous beginning of a deployed commit.")],
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="[SERVICE]",
            autocompletion=completing.services,
            show_default=False,
            help="Default: found by the commit.",
        ),
    ] = None,
    environment: Annotated[str, typer.Option("--env", metavar="ENV", help="staging or production.")] = "production",
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Put an image back that ran before.

    As a run with its own log, which is followed; ends as seamless run does. Rolling production back puts the service on
    hold: its production opens again only on someone's word.

    \b
    Examples:
      seamless images payment
      seamless rollback payment --to 7d01c9e
      seamless rollback --to 7d01c9e --env staging
    """
    if environment not in ("staging", "production"):
        raise UsageError(f"there is no environment {environment!r}", hint="--env takes staging or production")
    session = session_of(context)
    with session.agent() as agent:
        run = agent.rollback(to, service=service, environment=environment)
        raise typer.Exit(show_or_follow(session, agent, run, detach=detach, as_json=as_json))


@app.command()
def hold(
    context: typer.Context,
    service: completing.Service,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Shown with the service.")],
) -> None:
    """Put a service on hold.

    From then on its production opens only on someone's word: an approval, or seamless release.

    \b
    Example:
      seamless hold payment --why "the bank's maintenance window"
    """
    with session_of(context).agent() as agent:
        agent.hold(service, why)
    print(f"{service} is on hold. seamless release {service} ends that")


@app.command("release")
def release_hold(context: typer.Context, service: completing.Service) -> None:
    """End a service's hold.

    From then on its runs go to production as configured; what waits for an approval goes on waiting.

    \b
    Example:
      seamless release payment
    """
    with session_of(context).agent() as agent:
        agent.release(service)
    print(f"{service} is not on hold any more")


def show_or_follow(
    session: Session, agent: Client, run: RunJSON, *, after: int = 0, detach: bool, as_json: bool
) -> int:
    """Follow a run, or only name it; returns the exit code."""
    if not detach:
        from seamless.cli.follow import follow

        return follow(session, agent, run, after=after, as_json=as_json)
    if as_json:
        print_json(run)
    else:
        print(run["id"])
    return 0


def _only_waiting(agent: Client) -> str:
    """The one run that waits for approval."""
    waiting = agent.runs(state="awaiting_approval")
    if not waiting:
        raise RefusedError("nothing is waiting for approval", hint="What there is: seamless status")
    if len(waiting) > 1:
        listed = "".join(f"\n  seamless approve {run['id']}    {run['subject']}" for run in waiting)
        raise UsageError(f"{len(waiting)} runs are waiting for approval; name one:{listed}")
    return waiting[0]["id"]
