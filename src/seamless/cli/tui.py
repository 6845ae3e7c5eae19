"""`seamless tui`: the fleet on one screen."""

from __future__ import annotations

import typer

from seamless.cli.session import session_of, user_name

app = typer.Typer()


@app.command()
def tui(context: typer.Context) -> None:
    """Show and steer the whole fleet on one screen.

    Live: what runs where, logs, approvals, rollbacks, each by one key; ? shows them. Quitting stops no run.

    \b
    Example:
      seamless tui
    """
    from seamless.tui.program import run

    session = session_of(context)
    raise typer.Exit(run(session.socket_path, user_name(), no_color=session.no_color))
