"""Where following a run ends, and what the command then ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from seamless.wire import EventJSON

EXIT_CODES: Final = {"success": 0, "failure": 1, "cancelled": 1, "awaiting_approval": 4}
"""Of a run's states, those in which it is not followed any further."""


def is_stop(event: EventJSON) -> bool:
    """Whether the run has come to such a state; it may have left it since."""
    return event["kind"] == "run" and event["to_state"] in EXIT_CODES
