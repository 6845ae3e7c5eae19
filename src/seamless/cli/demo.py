"""`seamless demo`: the whole pipeline on a sample shop, and its removal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seamless.cli.session import session_of
from seamless.errors import RefusedError, SeamlessError, UsageError

if TYPE_CHECKING:
    from seamless.cli.shop import Shop

app = typer.Typer()


@app.command()
def demo(
    context: typer.Context,
    down: Annotated[bool, typer.Option("--down", help="Remove the demo with all that it made.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="PATH", show_default=False, help="Where it lives. Default: ~/.local/share/seamless-demo."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not wait for Enter before an approval.")] = False,
) -> None:
    """Show the whole pipeline on a sample shop.

    With an agent, git repositories and a configuration of its own. Stays until --down removes every trace.

    \b
    Examples:
      seamless demo
      seamless demo --down
    """
    import shlex

    from seamless.cli.shop import Shop
    from seamless.cli.tour import DemoInterruptedError, Tour

    session = session_of(context)
    if session.config is not None or session.socket is not None:
        raise UsageError(
            "the demo has a configuration of its own", hint="Leave out --config, --socket and $SEAMLESS_SOCKET"
        )
    shop = Shop(folder)
    if down:
        _take_down(shop)
        return
    if shop.exists():
        raise RefusedError(
            f"there is a demo already, in {shop.folder}",
            hint=f"Go on with it: export SEAMLESS_CONFIG={shlex.quote(str(shop.config_file))}. Remove it: {shop.down}",
        )
    remove = f"Remove the demo: {shop.down}"
    try:
        Tour(session, shop, pauses=not yes and sys.stdin.isatty() and sys.stdout.isatty()).take()
    except KeyboardInterrupt:
        raise DemoInterruptedError("interrupted", hint=remove if shop.exists() else None) from None
    except SeamlessError as error:
        if shop.exists():
            error.hint = f"{error.hint}. {remove}" if error.hint else remove
        raise


def _take_down(shop: Shop) -> None:
    if not shop.exists():
        print(f"there is no demo in {shop.folder}")
        return
    shop.remove()
    print(f"the demo in {shop.folder} is gone: agent, containers, networks, volumes, images, files")
