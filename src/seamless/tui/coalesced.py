"""What many events ask for, done once, a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual.message_pump import MessagePump


class Coalesced:
    """Calls `callback` from `owner`'s queue, `delay_s` after the first `ask`; until then further ones change nothing.

    Textual's `set_timer` is no base for this: a timer that is to fire once is dropped in silence when its task loses
    the processor, or the interpreter's lock, for longer than the delay while it begins (`Timer._run`, which skips what
    is late; Textual 8.2), and whoever waits for it to fire waits for ever.
    """

    def __init__(self, owner: MessagePump, delay_s: float, callback: Callable[[], Any]) -> None:
        self._owner = owner
        self._delay_s = delay_s
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._delay_s, self._fire)

    def put_off(self) -> None:
        """As `ask`, counted from now on."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.ask()

    def _fire(self) -> None:
        self._handle = None
        self._owner.call_next(self._callback)
