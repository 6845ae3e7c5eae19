"""A stack's progress: on a terminal its resources in place, else a line for each event."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from seamless.cli.screen import Screen
from seamless.cli.session import Session, user_name
from seamless.errors import SeamlessError
from seamless.rendering.environments import event_line, resource_lines, result_lines, state_of
from seamless.rendering.runs import Viewer

if TYPE_CHECKING:
    from seamless.wire_environments import StackEventJSON, StackProgressJSON


def show_progress(session: Session, name: str, action: str, steps: Iterable[StackProgressJSON]) -> int:
    """Returns the exit code. Raises what the agent met while it followed; interrupted, says how to go on."""
    screen = Screen(session.console) if session.is_live else None
    latest: dict[str, StackEventJSON] = {}
    try:
        for step in steps:
            viewer = Viewer.at_present(user_name())
            if "event" in step:
                event = step["event"]
                latest[event["resource"]] = event
                if screen is None:
                    print(event_line(event), flush=True)
                else:
                    failed = state_of(event["status"]) == "failure"
                    screen.draw([event_line(event)] if failed else [], resource_lines(latest, viewer))
            elif "result" in step:
                for line in result_lines(name, action, step["result"], viewer):
                    session.console.print(line)
                return int(not step["result"]["ok"])
            else:
                raise SeamlessError(step["error"]["message"], hint=step["error"]["hint"])
    except KeyboardInterrupt:
        print(f"\nthe stack goes on; seamless env show {name} --follow", file=sys.stderr)
        raise
    raise SeamlessError("the agent told no result", hint=f"seamless env show {name}")
