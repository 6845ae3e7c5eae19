"""Who is told what happens: the interface of a notifier.

The agent follows its own history (`store.events`, kinds "run", "stage", "deployment") from the last id that
was delivered, so that nothing is lost while it was down and nothing waits for a notifier. It calls
`notify` for one event at a time and again, with back-off, until it returns: a notifier must bear
the same event twice (its id tells). Cancelling a call may leave the message sent or not.
"""

from __future__ import annotations

from typing import Protocol

from seamless.model import Event


class Notifier(Protocol):
    async def notify(self, event: Event, text: str) -> None:
        """Delivers one event; `text` says it in a line, for people. Raises UnavailableError to be called again."""
