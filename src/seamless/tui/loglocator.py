"""Which line of a log one is at, and when it was written: the agent knows, and is asked once the keys rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from textual.widget import Widget
from textual.worker import Worker

from seamless.errors import SeamlessError
from seamless.tui.coalesced import Coalesced
from seamless.tui.logsource import Ask

if TYPE_CHECKING:
    from seamless.wire_logs import LogPositionJSON

_REST_S: Final = 0.15


class Locator:
    """Of one log. `on_known` is called, as `owner`, when the answer is there."""

    def __init__(
        self, owner: Widget, ask: Ask[LogPositionJSON], run: str, stage: str, on_known: Callable[[], None]
    ) -> None:
        self._owner = owner
        self._ask = ask
        self._where = run, stage
        self._on_known = on_known
        self._offset = -1
        self._known: tuple[int, LogPositionJSON] | None = None
        self._rest = Coalesced(owner, _REST_S, self._locate_soon)

    def position_of(self, offset: int) -> LogPositionJSON | None:
        """None while it is not known."""
        return self._known[1] if self._known and self._known[0] == offset else None

    def look_for(self, offset: int) -> None:
        self._offset = offset
        if self.position_of(offset) is None:
            self._rest.put_off()

    def _locate_soon(self) -> Worker[None]:
        return self._owner.run_worker(self._locate, exclusive=True, group="locate")

    async def _locate(self) -> None:
        run, stage = self._where
        offset = self._offset
        try:
            self._known = offset, await self._ask(lambda agent: agent.log_position(run, stage, offset=offset))
        except SeamlessError:
            return
        self._on_known()
