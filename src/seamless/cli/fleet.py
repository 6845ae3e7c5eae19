"""The fleet at a glance: `status`, `service list`, `service show`, `images`."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from seamless.cli import completing
from seamless.cli.session import print_json, session_of, user_name

app = typer.Typer()
_SERVICE: Final = """Add, show, change and remove services.

\b
Examples:
  sudo seamless service add https://github.com/acme/payment
  seamless service show payment
"""
services = typer.Typer(no_args_is_help=True, help=_SERVICE)
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the whole fleet.

    For each service its newest commit, what staging and production run and since when, and what happens now. A shortage
    of room, for which no new work is taken, is told on stderr.

    \b
    Example:
      seamless status
    """
    session = session_of(context)
    with session.agent() as agent:
        fleet, trouble = agent.status(), agent.version()["trouble"]
    for one in trouble:
        print(f"seamless: no new work is taken: {one}", file=sys.stderr)
    if as_json:
        print_json(fleet)
        return
    from seamless.rendering.runs import Viewer
    from seamless.rendering.tables import status_table

    if not fleet:
        print("no services are configured")
    for line in status_table(fleet, Viewer.at_present(user_name())) if fleet else []:
        session.console.print(line)


@services.command("list")
def list_services(context: typer.Context, as_json: AsJson = False) -> None:
    """List the configured services.

    \b
    Example:
      seamless service list --json
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.services()
    if as_json:
        print_json(found)
        return
    from seamless.rendering.tables import services_table

    for line in services_table(found):
        session.console.print(line)


@services.command("show")
def show_service(
    context: typer.Context,
    service: completing.Service,
    as_json: AsJson = False,
) -> None:
    """Show a service's parameters.

    As they are in force, and where each comes from.

    \b
    Example:
      seamless service show payment
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.service(service)
    if as_json:
        print_json(found)
        return
    from seamless.rendering.runs import Viewer
    from seamless.rendering.tables import parameters_table

    for line in parameters_table(found["parameters"], found["sources"], Viewer.at_present(user_name())):
        session.console.print(line)


@app.command()
def images(
    context: typer.Context,
    service: completing.Service,
    as_json: AsJson = False,
) -> None:
    """List a service's images, newest first.

    Where each runs, and whether it may be deployed or rolled back to.

    \b
    Example:
      seamless images payment
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.images(service)
    if as_json:
        print_json(found)
        return
    from seamless.rendering.runs import Viewer
    from seamless.rendering.tables import images_table

    for line in images_table(found, Viewer.at_present(user_name())):
        session.console.print(line)
