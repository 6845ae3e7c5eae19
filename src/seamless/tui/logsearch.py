"""Looking for something in a log: the agent looks, for a moment at a time, and the user may have enough of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from seamless.tui.logsource import Ask

if TYPE_CHECKING:
    from seamless.wire_logs import LogSearchJSON

ERRORS: Final = (
    r"(?i)\b(error|fatal|panic|exception|traceback|failed|failure|cannot|segmentation fault)\b|\bnot ok\b|✘|✗|✖|×"
)
"""What an error is taken to be."""
_PATIENCE_S: Final = 1.0


class Search:
    """For one pattern. Small letters match capitals too, unless the pattern has a capital itself. Raises UsageError."""

    def __init__(self, pattern: str, name: str | None = None) -> None:
        from seamless.patterns import compiled

        self.pattern = pattern
        self.name = name or pattern
        self.ignore_case = pattern == pattern.lower()
        self.expression: Any = compiled(pattern, ignore_case=self.ignore_case)
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        self._stopped = True

    async def find(
        self,
        ask: Ask[LogSearchJSON],
        run: str,
        stage: str,
        start: int,
        *,
        backwards: bool,
        on_progress: Callable[[str], None],
    ) -> int | None:
        """The next line's offset from `start` on; None when there is none, or when it was stopped."""
        self._stopped = False
        begun = time.monotonic()
        finished = False
        while not finished and not self._stopped:
            answer = await self.matches(ask, run, stage, start, backwards=backwards, limit=1)
            if answer["matches"]:
                return answer["matches"][0]["offset"]
            start, finished = answer["reached"], answer["finished"]
            if time.monotonic() - begun > _PATIENCE_S:
                on_progress(f"searching at {100 * start // max(1, answer['size'])} %; esc stops")
        return None

    async def matches(
        self, ask: Ask[LogSearchJSON], run: str, stage: str, start: int, *, backwards: bool, limit: int
    ) -> LogSearchJSON:
        """As far as the agent comes in one go."""
        options: dict[str, Any] = {"offset": start, "backwards": backwards, "ignore_case": self.ignore_case}
        return await ask(lambda agent: agent.search_log(run, stage, self.pattern, limit=limit, **options))
