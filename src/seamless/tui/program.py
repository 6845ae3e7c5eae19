"""How `seamless tui` begins and ends."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from seamless import __version__
from seamless.errors import AgentUnreachableError, UsageError
from seamless.paths import tui_settings
from seamless.tui.settings import Settings


def run(socket: Path, user: str, *, no_color: bool) -> int:
    """Until the user quits; runs go on. Raises UsageError where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the TUI needs a terminal", hint="For a script: seamless status --json")
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError("this terminal cannot move its cursor (TERM is dumb)", hint="seamless status shows the fleet")
    if no_color:
        os.environ["NO_COLOR"] = "1"
    # What some shells and readline leave in the environment is the size at their own start; Textual would take it for
    # the terminal's, and hold to it over every resize.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    terminal = sys.__stderr__  # what Textual writes to
    if isinstance(terminal, io.TextIOWrapper):
        terminal.reconfigure(errors="replace")
    # httpx's own command line, which it imports when it can: 70 ms.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # how an import is halted
    settings = Settings.load(tui_settings())
    from seamless.tui.app import SeamlessApp

    app = SeamlessApp(socket, user, settings, encoding=sys.stdout.encoding)
    app.run(mouse=settings.mouse)
    if app._exception is not None:
        raise explained(app._exception, app.agent_version)
    return app.return_code or 0


def explained(error: Exception, agent_version: str | None) -> Exception:
    """An answer that lacks something, by an agent that was not restarted after an update, is no bug; any other error
    stays what it is, and the command line writes it to a file."""
    from textual.worker import WorkerFailed

    if isinstance(error, WorkerFailed) and isinstance(error.error, Exception):
        error = error.error
    if not isinstance(error, LookupError | TypeError) or agent_version in (None, __version__):
        return error
    return AgentUnreachableError(
        f"the agent is version {agent_version} and this command version {__version__}, and its answers do not fit",
        hint="Update the older one; an agent is new after: seamless agent stop; seamless agent start",
    )
