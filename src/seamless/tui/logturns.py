"""What is done with a log: one thing at a time, in the order of the keys; what takes long, while it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeAlias

from seamless.errors import SeamlessError

Work: TypeAlias = Callable[[], Awaitable[None]]


class _Patience:
    """The user's: shared by all that was asked for since it was over last."""

    is_over = False


class Turns:
    """`start` runs a turn as a task, or not at all at the program's end; `ended` is called after each, with what was
    wrong."""

    def __init__(
        self,
        start: Callable[[Callable[[], Coroutine[None, None, None]]], object],
        ended: Callable[[SeamlessError | None], None],
    ) -> None:
        self._start = start
        self._ended = ended
        self._busy = asyncio.Lock()
        self._newest = self._now = _Patience()
        self._subject = 0

    @property
    def is_enough(self) -> bool:
        """Whether what is being done now, and takes long, is to be given up. It looks between its steps."""
        return self._now.is_over

    @property
    def is_stopped(self) -> bool:
        """Whether the user has not asked for anything since `stop`."""
        return self._newest.is_over

    def take(self, work: Work) -> None:
        """After all that was asked for before."""
        if self._newest.is_over:
            self._newest = _Patience()
        self.take_along(work)

    def take_instead(self, work: Work) -> None:
        """What was asked for before is not waited for where it takes long."""
        self.stop()
        self.take(work)

    def take_along(self, work: Work) -> None:
        """What nobody asked for: it does not make what was stopped go on."""
        subject, patience = self._subject, self._newest

        async def turn() -> None:
            async with self._busy:
                if subject != self._subject:
                    return
                self._now = patience
                wrong = None
                try:
                    await work()
                except SeamlessError as error:
                    wrong = error
                if subject == self._subject:
                    self._ended(wrong)

        self._start(turn)

    def stop(self) -> None:
        """Give up what takes long."""
        self._newest.is_over = True

    def begin_anew(self) -> None:
        """With another subject: all that was asked for before is forgotten."""
        self.stop()
        self._subject += 1
        self._newest = _Patience()
