"""The live view of a run: stages stay in place and move, lines of the running ones flow by above them.

The main thread draws, at most ten times a second. One thread reads the run's events, one each the
logs of running stages. Log lines that come faster than anybody reads are left out, and that is said.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.text import Text

from seamless.cli.lines import RecentLines, Tails, prefix_width, stage_prefix
from seamless.cli.outcomes import EXIT_CODES, is_stop
from seamless.cli.screen import Screen
from seamless.cli.session import Session, user_name
from seamless.errors import AgentUnreachableError, SeamlessError
from seamless.logtext import plain
from seamless.rendering.formats import age
from seamless.rendering.runs import Viewer, being_cancelled, ending, header, stage_rows

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import EventJSON, RunJSON

_TICK_S: Final = 0.1
_LINES_A_TICK: Final = 400
_LAST_LINES_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Stopped:
    run: RunJSON


@dataclass(frozen=True, slots=True)
class _GivenUp:
    error: SeamlessError


@dataclass(frozen=True, slots=True)
class _Lost:
    error: SeamlessError
    since: float = field(default_factory=time.monotonic)


class _Back:
    """The agent answers again."""


Message: TypeAlias = "EventJSON | _Stopped | _GivenUp | _Lost | _Back"


def watch(session: Session, agent: Client, run: RunJSON, *, after: int) -> RunJSON:
    """Show the run until it stops; returns it as it is then."""
    return _LiveView(session, agent, run).run_until_stop(after)


class _LiveView:
    def __init__(self, session: Session, agent: Client, run: RunJSON) -> None:
        self._agent = agent
        self._run = run
        self._viewer_name = user_name()
        self._console = session.console
        self._colour = session.has_colors
        self._screen = Screen(session.console)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lost: _Lost | None = None
        self._lines = RecentLines(run["id"], _LINES_A_TICK)
        self._tails = Tails(agent, run["id"], self._lines.add, colour=self._colour)
        self._prefix_width = prefix_width(run)

    def run_until_stop(self, after: int) -> RunJSON:
        threading.Thread(target=self._read_events, args=(after,), name="events", daemon=True).start()
        self._console.print(header(self._run, self._viewer(), with_command=True))
        for stage in self._run["stages"]:
            if stage["state"] == "in_progress":
                self._tails.follow(stage["name"])
        while not self._take_in(self._next_messages()):
            self._draw()
        self._tails.wait(_LAST_LINES_S)
        self._draw()
        for line in [Text(), *ending(self._run, self._viewer())]:
            self._console.print(line)
        return self._run

    def _read_events(self, after: int) -> None:
        def tell(error: SeamlessError | None) -> None:
            self._messages.put(_Lost(error) if error else _Back())

        try:
            for event in self._agent.stream_events(run=self._run["id"], after=after, on_change=tell):
                self._messages.put(event)
                if is_stop(event) and (run := self._agent.run(self._run["id"]))["state"] in EXIT_CODES:
                    self._messages.put(_Stopped(run))
                    return
        except SeamlessError as error:
            self._messages.put(_GivenUp(error))

    def _next_messages(self) -> list[Message]:
        """Those of one tick, or fewer when the run stops meanwhile."""
        until = time.monotonic() + _TICK_S
        messages: list[Message] = []
        while (left := until - time.monotonic()) > 0:
            try:
                messages.append(self._messages.get(timeout=left))
            except queue.Empty:
                break
            if isinstance(messages[-1], _Stopped):
                break
        return messages

    def _take_in(self, messages: list[Message]) -> bool:
        """Bring the run up to date; returns whether it has stopped."""
        changed = False
        for message in messages:
            match message:
                case _Stopped(run):
                    self._run = run
                    return True
                case _GivenUp(error):
                    raise error
                case _Lost():
                    self._lost = message
                case _Back():
                    self._lost = None
                case event:
                    changed = True
                    if event["kind"] == "stage" and event["stage"] and event["to_state"] == "in_progress":
                        self._tails.follow(event["stage"])
        if changed:
            with suppress(AgentUnreachableError):  # the event stream notices, and what is shown stays
                self._run = self._agent.run(self._run["id"])
        return False

    def _draw(self) -> None:
        viewer = self._viewer()
        block = [Text(), *stage_rows(self._run, viewer)]
        if told := being_cancelled(self._run):
            block.append(Text(f"  {told}", "yellow"))
        if self._lost:
            gone = age(time.monotonic() - self._lost.since)
            block.append(Text(f"  ! {plain(self._lost.error.message)} (for {gone}); trying again", "red"))
        self._screen.draw([self._prefixed(stage, line) for stage, line in self._lines.take()], block)

    def _prefixed(self, stage: str, line: str) -> str:
        return stage_prefix(stage, self._prefix_width, colour=self._colour) + line

    def _viewer(self) -> Viewer:
        return Viewer.at_present(self._viewer_name)
