"""`seamless shell`: a look at the workspace of a stage that failed."""

from __future__ import annotations

from typing import Annotated

import typer

from seamless.cli import completing
from seamless.cli.session import session_of

app = typer.Typer()


@app.command()
def shell(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", autocompletion=completing.runs, help="A run, or a service for its latest run."),
    ],
    stage: Annotated[
        str | None,
        typer.Argument(
            metavar="[STAGE]",
            autocompletion=completing.stages,
            help="Default: the stage that failed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open a shell where a stage failed.

    It is a new container from the stage's image, with its limits, on a view of its own over the stage's
    workspace: nothing that is written there reaches a rerun. Ends with the shell's own exit code.

    \b
    Examples:
      seamless shell payment-43
      seamless shell payment-43 unit_test
      echo 'npm ls' | seamless shell payment-43
    """
    from seamless.cli.attachment import attach

    raise typer.Exit(attach(session_of(context), run, stage))
