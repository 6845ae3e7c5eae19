"""Log bytes as the lines that a terminal may be shown, and the threads that follow the logs of a run's stages."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from seamless.errors import SeamlessError
from seamless.logtext import Sanitiser

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import RunJSON

_TAIL_BYTES: Final = 64 * 1024
_DIM, _RESET = "\x1b[2m", "\x1b[0m"


def lines_of(chunks: Iterable[bytes], *, colour: bool) -> Iterator[list[str]]:
    """The sanitised lines that each chunk completes, without their ends; an unfinished last one comes at the end.

    A line longer than what the sanitiser holds comes in pieces, so memory stays bounded.
    """
    sanitiser = Sanitiser(colour=colour)
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + sanitiser.feed(chunk)).split("\n")
        if len(rest) > _TAIL_BYTES:
            lines.append(rest)
            rest = ""
        if lines:
            yield lines
    if rest := rest + sanitiser.finish():
        yield rest.rstrip("\n").split("\n")


def last_lines(agent: Client, run: str, stage: str, count: int) -> list[str]:
    """The last lines of what is stored of a stage's log, without colours; none when there is no log."""
    try:
        size = agent.log_size(run, stage)
        chunks = agent.log(run, stage, offset=max(0, size - _TAIL_BYTES))
        found = [line for lines in lines_of(chunks, colour=False) for line in lines]
    except SeamlessError:
        return []
    cut = 1 if size > _TAIL_BYTES and len(found) > 1 else 0  # the first one may have lost its beginning
    return found[cut:][-count:]


def prefix_width(run: RunJSON) -> int:
    """How wide the names before the lines of a run are."""
    return max((len(stage["name"]) for stage in run["stages"]), default=0)


def stage_prefix(stage: str, width: int, *, colour: bool) -> str:
    """`unit_test    │ `."""
    prefix = f"{stage:<{width}} │ "
    return f"{_DIM}{prefix}{_RESET}" if colour else prefix


class Tails:
    """Follows the logs of a run's stages, a thread for each, and hands over their lines as they come.

    `deliver` is called from those threads; while it blocks, the agent is not read any further.
    """

    def __init__(self, agent: Client, run: str, deliver: Callable[[str, list[str]], None], *, colour: bool) -> None:
        self._agent = agent
        self._run = run
        self._deliver = deliver
        self._colour = colour
        self._threads: dict[str, threading.Thread] = {}

    def follow(self, stage: str) -> None:
        """Follow a stage's log from its beginning; a stage that is followed already stays so."""
        if stage not in self._threads:
            thread = threading.Thread(target=self._read, args=(stage,), name=f"log of {stage}", daemon=True)
            self._threads[stage] = thread
            thread.start()

    def wait(self, timeout_s: float) -> None:
        """Until all logs have come to their ends, at most `timeout_s` for each."""
        for thread in self._threads.values():
            thread.join(timeout_s)

    @property
    def at_end(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads.values())

    def _read(self, stage: str) -> None:
        try:
            for lines in lines_of(self._agent.follow_log(self._run, stage), colour=self._colour):
                self._deliver(stage, lines)
        except SeamlessError as error:
            self._deliver(stage, [f"(the log cannot be followed any further: {error.message})"])


class RecentLines:
    """The newest lines that have not been shown yet; what is pushed out is counted."""

    def __init__(self, run: str, limit: int) -> None:
        self._run = run
        self._limit = limit
        self._lock = threading.Lock()
        self._lines: deque[tuple[str, str]] = deque()
        self._left_out: Counter[str] = Counter()

    def add(self, stage: str, lines: list[str]) -> None:
        with self._lock:
            self._lines.extend((stage, line) for line in lines)
            while len(self._lines) > self._limit:
                self._left_out[self._lines.popleft()[0]] += 1

    def take(self) -> list[tuple[str, str]]:
        """(stage, line) pairs, once."""
        with self._lock:
            left_out = [
                (stage, f"… {count} lines are not shown here: seamless logs {self._run} {stage}")
                for stage, count in self._left_out.items()
            ]
            taken = [*left_out, *self._lines]
            self._left_out.clear()
            self._lines.clear()
            return taken
