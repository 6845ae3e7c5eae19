"""The real program in a real terminal, in front of a real agent that is killed while a log is followed."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agents import Agent
from harness.repositories import Repository
from seamless.tui.logview import LogView

from .screens import in_front_of

pytestmark = pytest.mark.engine

_HOSTILE = r"printf '\033]52;c;ZWNobw==\007\033[2J\033]0;owned\007\033[31mred\033[0m \302\2332J \342\200\256over\n'"
_COUNT = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo tick $i; sleep 0.2; done"


class Terminal:
    """`seamless tui` in tmux. All that the program writes to its terminal is kept in `raw`."""

    def __init__(self, agent: Agent, folder: Path, columns: int = 100, rows: int = 30) -> None:
        self._tmux = ["tmux", "-L", f"seamless-{secrets.token_hex(4)}"]
        self._raw = folder / "raw"
        environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "COLUMNS": "80",  # readline leaves such a size in pytest's workers, others in their users' shells
            "LINES": "24",
        }
        command = f"sleep 0.3; {shlex.join(agent.command('tui'))}; echo ENDED $?; sleep 600"
        size = ["-x", str(columns), "-y", str(rows)]
        subprocess.run(
            [*self._tmux, "-f", "/dev/null", "new-session", "-d", *size, "sh", "-c", command],
            check=True,
            env=environment,
        )
        self._call("pipe-pane", f"cat > {shlex.quote(str(self._raw))}")

    def _call(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=20)
        return done.stdout

    def press(self, *keys: str) -> None:
        self._call("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._call("resize-window", "-x", str(columns), "-y", str(rows))

    @property
    def screen(self) -> str:
        return self._call("capture-pane", "-p")

    @property
    def raw(self) -> bytes:
        return self._raw.read_bytes()

    def sees(self, *texts: str, gone: str = "\0", within_s: float = 60.0) -> str:
        deadline = time.monotonic() + within_s
        while not (all(text in (screen := self.screen) for text in texts) and gone not in screen):
            assert time.monotonic() < deadline, screen
            time.sleep(0.05)
        return screen

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


_MUCH = 20_000_000  # bytes, half a million lines
_FLOOD = "while :; do yes 'a line of a flood that goes on and on' | head -n 20000; sleep 0.1; done"


@pytest.fixture
def terminal(agent: Agent, new_repository: Callable[[str], Repository], tmp_path: Path) -> Iterator[Terminal]:
    repository = new_repository("web")
    repository.commit({"check": f"{_HOSTILE}\n{_COUNT}\n"}, "first")
    agent.configure(f'[services.web]\nrepo = "{repository.path}"\nunit_test = "sh ./check"')
    agent.start()
    one = Terminal(agent, tmp_path)
    yield one
    one.close()


# httpx leaves the socket of a connection that broke off to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_is_followed_over_the_agents_death_and_left(agent: Agent, terminal: Terminal) -> None:
    terminal.sees("1 service", "no runs yet")
    agent.client.start_run("web", checks=True)
    terminal.sees("web-1 unit_test")
    terminal.press("l")
    terminal.sees("web-1", "following", "tick 3")

    agent.kill()
    terminal.sees("trying again", "tick 3")
    agent.start()
    before = int(re.findall(r"tick (\d+)", terminal.screen)[-1])
    terminal.sees(f"tick {before + 5}", "following", gone="trying again")
    terminal.press("g")
    screen = terminal.sees("paused", "red", "tick 1\n")
    ticks = [int(number) for number in re.findall(r"tick (\d+)", screen)]
    assert ticks == list(range(1, len(ticks) + 1))

    terminal.resize(60, 20)
    terminal.sees("unit_test", gone="tick 1")  # one pane
    terminal.press("Enter")
    terminal.sees("tick 1", gone="code_quality")

    terminal.press("q")
    terminal.sees("ENDED 0")
    assert agent.client.run("web-1")["state"] == "in_progress"
    agent.client.cancel("web-1", "enough")
    agent.wait_run("web-1", ["cancelled"])

    raw = terminal.raw
    assert b"tick 1" in raw
    for harm in (b"52;c", b"\x1b]0;owned", b"\x9b2J", b"\xc2\x9b", "\u202e".encode()):
        assert harm not in raw
    assert raw.count(b"\x1b[?1049h") == raw.count(b"\x1b[?1049l") == 1  # the terminal is given back


def test_keys_act_in_a_flood(agent: Agent, new_repository: Callable[[str], Repository]) -> None:
    """However fast a log grows, a key has two turns of its growth before it at most: this one and the next."""
    repository = new_repository("web")
    repository.commit({"check": f"echo the first line\n{_FLOOD}\n"}, "first")
    agent.configure(f'[services.web]\nrepo = "{repository.path}"\nunit_test = "sh ./check"')
    agent.start()
    agent.client.start_run("web", checks=True)

    def size() -> int:
        return agent.client.log_size("web-1", "unit_test")

    async def main() -> None:
        async with in_front_of(agent.socket, (100, 30)) as user:
            await user.sees("web-1 unit_test", within_s=60)
            await user.press("l")
            await user.sees("following", "goes on and on", within_s=60)
            log = user.app.screen.query_one(LogView)
            waiting = []
            while (before := size()) < _MUCH:
                await user.rests(0)
                waiting.append(sum(worker.node is log and worker.group == "default" for worker in user.app.workers))
            assert max(waiting) <= 2, waiting
            await user.press("g")
            await user.sees("paused", "the first line")
            await user.press("j", "j")
            await user.sees("line 3 ", " new")
            await user.press("G")
            await user.sees("following", gone="the first line")
            assert size() > before  # it went on all the while
            await user.press("ampersand")
            await user.type("first|nowhere")
            await user.press("enter")
            await user.sees("▌the first line", "following", gone="goes on and on")
            await user.press("escape")
            await user.sees("following", "goes on and on", gone="the first line")

    asyncio.run(main())
    agent.client.cancel("web-1", "enough")
    agent.wait_run("web-1", ["cancelled"])
