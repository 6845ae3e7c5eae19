"""Who is told what happens: the interface of a notifier.

One mechanism serves all kinds of `[notify.NAME]`. In the transaction of an event the agent makes its notice
(`notices.notice_of`, a pure function), and stores it in the outbox once for each `[notify.NAME]` that wants it. The
outbox's courier hands it to the kind's notifier, off the run's way, again with back-off until it is taken or
a day old; a notifier must bear the same notice twice (its id tells). A kind is a field of `config.Notify`,
an entry of NOTIFY_KINDS, and a notifier in the agent's composition root.
"""

from __future__ import annotations

from typing import Protocol

from seamless.config import Notify
from seamless.notifiers.notices import Notice

__all__ = ["Notice", "Notifier"]


class Notifier(Protocol):
    """Of one kind."""

    async def send(self, place: Notify, notice: Notice) -> None:
        """Delivers one notice to the place. Raises SeamlessError to be called again, and UsageError for a notice that
        this place will never take. Cancelled, the notice may be sent or not."""
