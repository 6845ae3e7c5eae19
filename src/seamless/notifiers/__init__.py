"""Who is told what happens: the interface of a notifier.

One mechanism serves all kinds of `[notify.NAME]`. In the transaction of an event the agent makes its notice
(`notices.notice_of`, a pure function), and stores it in the outbox once for each `[notify.NAME]` that wants it. The
outbox's courier hands it to the kind's notifier, off the run's way, again with back-off until it is taken or
a day old; a notifier must bear the same notice twice (its id tells). A kind is a field of `config.Notify`,
an entry of NOTIFY_KINDS, and a notifier in the agent's composition root.
"""

from __future__ import annotations

import os
import ssl
from typing import Protocol

from seamless.config import Notify
from seamless.notifiers.notices import Notice

__all__ = ["Notice", "Notifier", "words_of"]


class Notifier(Protocol):
    """Of one kind."""

    async def send(self, place: Notify, notice: Notice) -> None:
        """Delivers one notice to the place. Raises SeamlessError to be called again, and UsageError for a notice that
        this place will never take. Cancelled, the notice may be sent or not."""


def words_of(error: OSError) -> str:
    """The system's words for what kept us from a far end, such as "Connection refused"; or those of TLS."""
    match error:
        case ssl.SSLCertVerificationError(verify_message=why):
            return f"its certificate is not accepted: {why}"
        case ssl.SSLError(reason=why) if why:
            return f"TLS fails: {why.replace('_', ' ').lower()}"
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or type(error).__name__  # not positive: of a look-up
