"""How `seamless tui` begins and ends."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from seamless.errors import UsageError
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
        raise app._exception  # the command line writes it to a file, and says so
    return app.return_code or 0
