"""What the shell completes, most of it from the agent. A shell is waiting, so whatever is wrong completes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from seamless.cli.session import Session

if TYPE_CHECKING:
    from seamless.client import Client

_PATIENCE_S: Final = 2.0
_NEWEST: Final = 30


def services(context: typer.Context, incomplete: str) -> list[str]:
    """Names of services."""
    return _asked(context, lambda agent: [service["name"] for service in agent.services()], incomplete)


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the newest runs, of one service once its name is typed; and services, which mean their latest run."""

    def known(agent: Client) -> list[str]:
        names = [service["name"] for service in agent.services()]
        service = incomplete.rpartition("-")[0]
        found = agent.runs(service=service if service in names else None, limit=_NEWEST)
        return names + [run["id"] for run in found]

    return _asked(context, known, incomplete)


Service = Annotated[
    str, typer.Argument(metavar="SERVICE", autocompletion=services, help="Its name, as the configuration has it.")
]


def stages(incomplete: str) -> list[str]:
    """Names of stages, whichever the run has: known without the agent."""
    from seamless.model import StageName

    return [stage for stage in StageName if stage.startswith(incomplete)]


def _asked(context: typer.Context, ask: Callable[[Client], list[str]], incomplete: str) -> list[str]:
    import os

    from seamless.client import Client
    from seamless.paths import HOST_VARIABLE, SOCKET_VARIABLE

    given = context.find_root().params  # the callback that makes the session does not run for a completion
    config, socket = given.get("config"), given.get("socket") or os.environ.get(SOCKET_VARIABLE)
    session = Session(
        Path(config) if config else None,
        Path(socket) if socket else None,
        no_color=True,
        host=given.get("host") or os.environ.get(HOST_VARIABLE) or None,
    )
    try:
        with Client(session.socket_path, timeout_s=_PATIENCE_S) as agent:
            return [name for name in ask(agent) if name.startswith(incomplete)]
    except Exception:  # a shell cannot show an error here
        return []
