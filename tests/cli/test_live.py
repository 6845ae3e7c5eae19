"""The live view, on a real pseudo-terminal that is read by a small emulator of one."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from seamless.cli.lines import RecentLines, lines_of
from seamless.cli.screen import Screen

from .fake_agent import FakeAgent, run, stage

pytestmark = pytest.mark.fake

_TOKEN = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|(\n)|(\r)|([^\x1b\n\r]+)")
_CUT = re.compile(r"(\x1b(\[[?0-9;]*)?)?$")  # a sequence of which the end has not been read yet


class Terminal:
    """As much of a terminal as the view uses; text that is wider than it wraps."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.row = 0
        self.codes: set[str] = set()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""

    def feed(self, data: bytes) -> None:
        text = self._rest + self._decoder.decode(data)
        whole = len(text) - len(_CUT.search(text)[0])  # type: ignore[index]  # it matches nothing at least
        text, self._rest = text[:whole], text[whole:]
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            assert token, f"not a sequence that a terminal may be sent: {text[at : at + 20]!r}"
            at = token.end()
            parameters, final, newline, _, words = token.groups()
            if final:
                self.codes.add(f"{parameters}{final}" if final in "hl" else final)
            if final == "F":
                self.row = max(0, self.row - int(parameters))
            elif final == "J":
                self.lines[self.row :] = [""]
            elif newline:
                self._down()
            elif words:
                for char in words:
                    if len(self.lines[self.row]) == self.columns:
                        self._down()
                    self.lines[self.row] += char

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")


class Command:
    """`seamless` on a terminal of that width."""

    def __init__(
        self, agent: FakeAgent, *arguments: str, columns: int = 100, env: dict[str, str] | None = None
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 30, columns, 0, 0))
        self.terminal = Terminal(columns)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seamless", "--socket", str(agent.socket), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        )
        os.close(slave)

    @property
    def screen(self) -> str:
        return "\n".join(self.terminal.lines).rstrip("\n")

    def read_until(self, seen: Callable[[], bool], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not seen() and self._read(deadline):
            pass
        assert seen(), self.screen

    def wait(self) -> int:
        while self._read(time.monotonic() + 30):
            pass
        os.close(self._master)
        return self.process.wait(10)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            return False
        self.terminal.feed(data)
        return True


def started(agent: FakeAgent) -> None:
    agent.runs["payment-42"] = run(stages=[stage("prepare"), stage("unit_test"), stage("build")])
    agent.answers["POST", "services/payment/runs"] = lambda: (201, agent.runs["payment-42"])


def test_stages_stay_in_place_while_lines_flow_by(agent: FakeAgent) -> None:
    started(agent)
    command = Command(agent, "run", "payment")
    command.read_until(lambda: "○ build" in command.screen)
    agent.move("payment-42", "in_progress", at="14:02:11")
    agent.move("payment-42", "in_progress", stage="prepare", at="14:02:11")
    agent.move("payment-42", "success", stage="prepare", at="14:02:15", detail={"note": "kept tree"})
    for name in ("unit_test", "build"):
        agent.move("payment-42", "in_progress", stage=name, at="14:02:15", attempt=1)
    agent.write("payment-42", "unit_test", b"\x1b[32mPASS\x1b[0m a.test.ts\x1b]52;c;ZQ==\x07\nhalf a li")
    command.read_until(lambda: "PASS" in command.screen and "▶ build" in command.screen)
    assert command.screen.count("prepare ") == 1
    agent.write("payment-42", "unit_test", b"ne\n" + b"w" * 250 + b"\n")
    command.read_until(lambda: "www" in command.screen)
    for name in ("unit_test", "build"):
        agent.move("payment-42", "success", stage=name, at="14:02:21")
    agent.move("payment-42", "success", at="14:02:21.200")
    assert command.wait() == 0
    again = "seamless show payment-42"
    assert command.screen.splitlines() == [
        f'payment-42  main  9f3c2ab  "Retry card declines"  by ann{again:>44}',
        "unit_test │ PASS a.test.ts",
        "unit_test │ half a line",
        "unit_test │ " + "w" * 88,
        "w" * 100,
        "w" * 62,
        "",
        "  ✔ prepare              4.0 s  kept tree",
        "  ✔ unit_test            6.0 s",
        "  ✔ build                6.0 s",
        "",
        "✔ payment-42 succeeded in 10.2 s",
    ]
    assert command.terminal.codes <= {"F", "J", "m", "?2026h", "?2026l"}


def test_an_interrupt_leaves_the_view_and_the_run_goes_on(agent: FakeAgent) -> None:
    started(agent)
    agent.move("payment-42", "in_progress", stage="unit_test", attempt=1)
    command = Command(agent, "run", "payment")
    command.read_until(lambda: "▶ unit_test" in command.screen)
    command.process.send_signal(signal.SIGINT)
    assert command.wait() == 130
    assert command.screen.splitlines()[-1] == "seamless: interrupted. The run goes on: seamless show payment-42"
    assert "▶ unit_test" in command.screen


def test_an_agent_that_is_away_is_said_and_waited_for(agent: FakeAgent) -> None:
    started(agent)
    agent.cut_after = 1
    command = Command(agent, "run", "payment")
    command.read_until(lambda: "○ build" in command.screen)
    agent.move("payment-42", "in_progress", stage="prepare", attempt=1)
    command.read_until(lambda: "▶ prepare" in command.screen)
    agent.is_away = True
    agent.move("payment-42", "failure", stage="prepare", reason="no such commit")
    command.read_until(lambda: f"! the agent at {agent.socket} broke off the connection" in command.screen)
    assert "▶ prepare" in command.screen
    agent.is_away = False
    agent.move("payment-42", "failure", reason="prepare: no such commit")
    assert command.wait() == 1
    assert "! the agent" not in command.screen
    assert "✘ payment-42 failed in prepare after 0.0 s: no such commit" in command.screen


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_terminals_that_want_less(agent: FakeAgent, env: dict[str, str]) -> None:
    started(agent)
    agent.move("payment-42", "in_progress", stage="build", attempt=1)
    agent.write("payment-42", "build", b"\x1b[32mstep 1\x1b[0m\n")
    agent.move("payment-42", "success", stage="build")
    agent.move("payment-42", "success")
    command = Command(agent, "run", "payment", env=env)
    assert command.wait() == 0
    assert "m" not in command.terminal.codes
    assert ("step 1" in command.screen) == ("NO_COLOR" in env)


def test_raw_logs_are_not_for_terminals(agent: FakeAgent) -> None:
    started(agent)
    command = Command(agent, "logs", "payment-42", "build", "--raw")
    assert command.wait() == 2
    assert "Pipe it: seamless logs payment-42 build --raw | less" in "".join(command.terminal.lines)


def test_a_block_is_redrawn_in_place_on_a_terminal_that_became_narrower(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as file:
        console = Console(file=file, width=80, height=5, force_terminal=True, color_system=None, soft_wrap=True)
        screen = Screen(console)
        screen.draw([], [Text("gone"), *(Text(f"{n}" * 70) for n in range(4))])
        written = file.tell()
        screen.draw([], [Text("gone"), *(Text(f"{n}" * 70) for n in range(4))])
        assert file.tell() == written, "nothing has changed"
        console.width = 30
        screen.draw(["above"], [Text("short"), Text("日本" * 20)])
        file.seek(0)
        first, second = file.read().split("\x1b[?2026l")[:2]
    assert "gone" not in first
    assert [line[:1] for line in first.removeprefix("\x1b[?2026h").splitlines()] == ["0", "1", "2", "3"]
    assert second.removeprefix("\x1b[?2026h") == "\x1b[12F\x1b[Jabove\nshort\n" + "日本" * 7 + " …\n"


def test_lines_that_nobody_can_read_are_counted() -> None:
    recent = RecentLines("payment-42", 3)
    recent.add("build", [f"{n}" for n in range(10)])
    recent.add("unit_test", ["x"])
    assert recent.take() == [
        ("build", "… 8 lines are not shown here: seamless logs payment-42 build"),
        ("build", "8"),
        ("build", "9"),
        ("unit_test", "x"),
    ]
    assert recent.take() == []


def test_a_line_without_an_end_takes_bounded_memory() -> None:
    pieces = [line for lines in lines_of((b"x" * 50_000 for _ in range(100)), colour=False) for line in lines]
    assert sum(map(len, pieces)) == 5_000_000
    assert max(map(len, pieces)) < 300_000
