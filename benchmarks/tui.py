"""What the TUI costs: until its first paint, a large log, and when nothing happens."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bench import Bench, ScriptError, milliseconds
from benchmarks.figures import Figure, Judged
from harness.agents import Agent

_WATCHED_S = 20.0
_SERVICES = 50
_LIVE = 4
_LINES = 1_000_000
_LINE = "12:00:00 INFO some text of a line that is about one hundred bytes long, number %d padding xxxxxx"
_FLOOD_LINE = "a line of a flood that goes on and on\n"
_FLOOD = f"while :; do yes '{_FLOOD_LINE.strip()}' | head -n 20000; sleep 0.1; done"
_FLOOD_LEAST = 100_000  # lines a second
_EMPTY_TEXTUAL = Path(__file__).with_name("empty_textual.py")


class Screen:
    """A program on a pseudo-terminal of 120 x 40; what it writes is searched, not drawn."""

    def __init__(self, command: Sequence[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
        self.began = time.monotonic()
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def seconds_until(self, text: str, since: float, within_s: float = 30.0) -> float:
        """From `since` until this was written."""
        seen = b""
        while time.monotonic() - since < within_s:
            if select.select([self._master], [], [], 0.1)[0]:
                seen += os.read(self._master, 65536)
                if text.encode() in seen:
                    return time.monotonic() - since
        raise ScriptError(f"{text!r} is not on the screen")

    def rest(self, seconds: float) -> None:
        """Reads what is written meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                os.read(self._master, 65536)

    def memory_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise ScriptError("the kernel does not tell VmRSS")

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextmanager
def _on_screen(command: Sequence[str]) -> Iterator[Screen]:
    screen = Screen(command)
    try:
        yield screen
    finally:
        screen.close()


def tui(bench: Bench) -> list[Figure]:
    """Fifty services, four of which run; a log of a million lines; and the empty program that Textual makes."""
    repositories = [bench.repository(f"web{number:02}", {"README": f"{number}\n"}) for number in range(_SERVICES)]
    services = "\n".join(f'[services.{one.path.name}]\nrepo = "{one.path}"' for one in repositories)
    log = f"awk 'BEGIN{{for(i=1;i<={_LINES};i++) printf \"{_LINE}\\n\", i}}'"
    large = bench.repository("large", {"check": log + "\n"})
    flood = bench.repository("flood", {"check": _FLOOD + "\n"})
    services += f'\n[services.flood]\nrepo = "{flood.path}"\nunit_test = "sh ./check"\n'
    services += f'\n[services.large]\nrepo = "{large.path}"\nunit_test = "sh ./check"\n'
    with bench.agent(services, pipeline='unit_test = "i=0; while sleep 5; do echo $i; done"') as agent:
        agent.run("large", checks=True)
        for number in range(_LIVE):
            agent.client.start_run(f"web{number:02}", checks=True)
        paints, empty = bench.in_turns(lambda: _first_paint(agent.command("tui")), lambda: _first_paint(_empty()))
        opened, jumped, grown, share = _use(agent, bench.repeat)
        for number in range(_LIVE):
            agent.client.cancel(f"web{number:02}", "")
        acted, rate = _in_flood(agent, bench.repeat)
        shown = _after_events(agent, 10 * bench.repeat)
    what = "an empty Textual program"
    return [
        Figure(
            "`seamless tui`: first paint", "ms", milliseconds(paints), Judged.MEDIAN, 700, milliseconds(empty), what
        ),
        Figure("  an event, until the fleet shows it", "ms", milliseconds(shown), Judged.WORST, 200),
        Figure("  a log of 100 MB, from the key to its last line", "ms", milliseconds(opened), Judged.MEDIAN, 500),
        Figure("  a jump in it, to the beginning or the end", "ms", milliseconds(jumped), Judged.MEDIAN, 100),
        Figure(
            f"  a key at the log of a stage that writes {rate:,.0f} lines/s",
            "ms",
            milliseconds(acted),
            Judged.WORST,
            200,
        ),
        Figure("  memory for it", "MB", [grown], Judged.MEDIAN, 30),
        Figure(f"  idle, {_SERVICES} services, {_LIVE} runs: share of a core", "%", [share], Judged.MEDIAN, 2),
    ]


def _empty() -> list[str]:
    return [sys.executable, str(_EMPTY_TEXTUAL)]


def _first_paint(command: Sequence[str]) -> float:
    with _on_screen(command) as screen:
        return screen.seconds_until("quit", screen.began)


def _after_events(agent: Agent, count: int) -> list[float]:
    """From the time at which the agent recorded an event until the fleet shows it, in seconds."""
    shown = []
    with _on_screen(agent.command("tui")) as screen:
        screen.seconds_until("web00", screen.began)
        screen.rest(3)
        for number in range(count):
            begun = time.monotonic()
            agent.client.hold("web09", f"reason{number:03}")
            screen.seconds_until(f"reason{number:03}", begun)
            seen_at = datetime.now(UTC)
            event = agent.client.events(before=2**62, limit=1)[0]
            shown.append((seen_at - datetime.fromisoformat(event["at"])).total_seconds())
            screen.rest(0.3)
    agent.client.release("web09")
    return shown


def _in_flood(agent: Agent, repeat: int) -> tuple[list[float], float]:
    """(from keys to what they do, s; lines/s that the agent stored meanwhile). Raises ScriptError for no flood."""
    run = agent.client.start_run("flood", checks=True)["id"]

    def lines() -> float:
        return agent.client.log_size(run, "unit_test") / len(_FLOOD_LINE)

    acted = []
    with _on_screen(agent.command("tui")) as screen:
        screen.seconds_until("flood", screen.began)
        screen.rest(3)
        screen.press("l")  # the service under the cursor is `flood`, the first by name
        screen.seconds_until("following", time.monotonic())
        begun, before = time.monotonic(), lines()
        for _ in range(4 * repeat):
            screen.rest(0.7)
            for key, text in (("f", "paused"), ("G", "following")):
                pressed = time.monotonic()
                screen.press(key)
                acted.append(screen.seconds_until(text, pressed))
                screen.rest(0.3)
        rate = (lines() - before) / (time.monotonic() - begun)
    agent.client.cancel(run, "")
    if rate < _FLOOD_LEAST:
        raise ScriptError(f"the flood had {rate:,.0f} lines/s only")
    return acted, rate


def _use(agent: Agent, repeat: int) -> tuple[list[float], list[float], float, float]:
    """(opened s, jumped s, MB that it took, share of a core in %)"""
    opened, jumped, grown = [], [], 0.0
    with _on_screen(agent.command("tui")) as screen:
        screen.seconds_until("web00", screen.began)
        screen.rest(3)
        begun, before = time.monotonic(), screen.processor_s()
        screen.rest(_WATCHED_S)
        share = (screen.processor_s() - before) / (time.monotonic() - begun) * 100
        memory = screen.memory_mb()
        for _ in range(repeat):
            begun = time.monotonic()
            screen.press("gjl")  # the second service by name is `large`
            opened.append(screen.seconds_until(f"number {_LINES} ", begun))
            screen.rest(0.5)
            for key, text in (("g", "number 1 "), ("G", f"number {_LINES} ")):
                begun = time.monotonic()
                screen.press(key)
                jumped.append(screen.seconds_until(text, begun))
                screen.rest(0.5)
            grown = max(grown, screen.memory_mb() - memory)
            screen.press("\x1b")
            screen.rest(1)
    return opened, jumped, grown, share
