"""Looking for something in a log: the agent looks, for a moment at a time, and the user may have enough of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from seamless.errors import SeamlessError
from seamless.tui.logsource import Ask

if TYPE_CHECKING:
    from seamless.wire_logs import LogSearchJSON

ERRORS: Final = (
    r"(?i)\b(error|fatal|panic|exception|traceback|failed|failure|cannot|segmentation fault)\b|\bnot ok\b|✘|✗|✖|×"
)
"""What an error is taken to be."""


class Search:
    """What is looked for. Small letters match capitals too, unless the pattern has a capital itself. Raises
    UsageError."""

    def __init__(self, pattern: str, name: str | None = None) -> None:
        from seamless.patterns import compiled

        self.pattern = pattern
        self.name = name or pattern
        self.ignore_case = pattern == pattern.lower()
        self.expression: Any = compiled(pattern, ignore_case=self.ignore_case)


class StoppedError(SeamlessError):
    """The user had enough of a search."""


class Searcher:
    """Looks through one log. `is_enough` is asked between two moments; `on_progress` is called when `progress` has
    changed."""

    def __init__(
        self,
        ask: Ask[LogSearchJSON],
        run: str,
        stage: str,
        is_enough: Callable[[], bool],
        on_progress: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._where = run, stage
        self._is_enough = is_enough
        self._on_progress = on_progress
        self.progress = ""
        """How far a search is that a moment was not enough for."""
        self._is_asking = False

    @property
    def is_busy(self) -> bool:
        return self._is_asking or bool(self.progress)

    def tell(self, progress: str) -> None:
        if progress != self.progress:
            self.progress = progress
            self._on_progress()

    async def moment(
        self, search: Search, start: int, *, backwards: bool, limit: int, quietly: bool = False
    ) -> LogSearchJSON:
        """As far from `start` on as the agent comes in a moment. Tells how far that is, where something is left.
        `quietly`: of the little that a log has grown by, which nobody need know of or stop."""
        run, stage = self._where
        options: dict[str, Any] = {"offset": start, "backwards": backwards, "ignore_case": search.ignore_case}
        self._is_asking = not quietly
        try:
            answer = await self._ask(lambda agent: agent.search_log(run, stage, search.pattern, limit=limit, **options))
        finally:
            self._is_asking = False
        if not quietly:
            place = f"{'back' if backwards else 'up'} to {100 * answer['reached'] // max(1, answer['size'])} %"
            self.tell("" if answer["finished"] else f"searched {place}")
        return answer

    async def look(
        self,
        search: Search,
        start: int,
        *,
        backwards: bool,
        limit: int,
        take: Callable[[LogSearchJSON], bool],
        quietly: bool = False,
    ) -> None:
        """Until `take`, which is given each answer, has enough, or nothing is left. Raises StoppedError."""
        try:
            while True:
                answer = await self.moment(search, start, backwards=backwards, limit=limit, quietly=quietly)
                if take(answer) or answer["finished"]:
                    return
                if not quietly and self._is_enough():
                    raise StoppedError(f"stopped, {self.progress}")
                start = answer["reached"]
        finally:
            if not quietly:
                self.tell("")

    async def find(self, search: Search, start: int, *, backwards: bool) -> int | None:
        """The next line's offset from `start` on, if there is one. Raises StoppedError."""
        found: list[int] = []

        def take(answer: LogSearchJSON) -> bool:
            found.extend(match["offset"] for match in answer["matches"])
            return bool(found)

        await self.look(search, start, backwards=backwards, limit=1, take=take)
        return found[0] if found else None
