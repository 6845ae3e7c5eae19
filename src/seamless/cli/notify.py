"""`seamless notify`: whether those who are to be told can be reached."""

from __future__ import annotations

from typing import Annotated

import typer

from seamless.cli.session import print_json, session_of, user_name

app = typer.Typer(no_args_is_help=True)


@app.callback()
def notify() -> None:
    """Try out who is told what happens.

    That is each [notify.NAME] of the configuration.

    \b
    Example:
      seamless notify test
    """


@app.command("test")
def try_out(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", show_default=False, help="Of a [notify.NAME]. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Send a test message now.

    Ends with 1 when one was not taken.

    \b
    Examples:
      seamless notify test
      seamless notify test releases
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.test_notifications(name)
    if as_json:
        print_json(found)
    else:
        from seamless.rendering.findings import findings_lines
        from seamless.rendering.runs import Viewer

        for line in findings_lines(found, Viewer.at_present(user_name())):
            session.console.print(line)
    raise typer.Exit(int(any(finding["level"] == "error" for finding in found)))
