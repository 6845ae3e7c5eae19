"""What Seamless costs when nothing happens, and how soon its commands answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench, ScriptError, milliseconds, time_run
from benchmarks.figures import Figure, Judged
from harness.agents import Agent

_WATCHED_S = 30.0
_EMPTY_TYPER = Path(__file__).with_name("empty_typer.py")


def idle(bench: Bench) -> list[Figure]:
    """An agent with a few services that are polled, freshly started and after a run."""
    repositories = [bench.repository(f"web{number}", {"README": f"{number}\n"}) for number in range(3)]
    services = "\n".join(f'[services.{one.path.name}]\nrepo = "{one.path}"' for one in repositories)
    with bench.agent(services, pipeline='unit_test = "echo tested"', agent="poll = true") as agent:
        fresh = memory_mb(agent, "VmRSS")
        share = _share_of_core(agent)
        time_run(agent, "web0", checks=True)
        used = memory_mb(agent, "VmRSS")
    return [
        Figure("agent idle: memory", "MB", [fresh], Judged.MEDIAN, 80),
        Figure("  after a run", "MB", [used], Judged.MEDIAN, 80),
        Figure(f"agent idle: share of a core over {_WATCHED_S:g} s", "%", [share], Judged.MEDIAN, 0.5),
    ]


def help_text(bench: Bench) -> list[Figure]:
    """`--help`, which needs nothing but Typer."""
    seamless = str(Path(sys.executable).with_name("seamless"))
    ours, empty = bench.in_turns(
        lambda: _time([seamless, "--help"]), lambda: _time([sys.executable, str(_EMPTY_TYPER), "--help"])
    )
    what = "an empty Typer program"
    return [Figure("`seamless --help`", "ms", milliseconds(ours), Judged.RATIO, 1.5, milliseconds(empty), what)]


def status(bench: Bench) -> list[Figure]:
    """Ten services, one of which has run."""
    repositories = [bench.repository(f"web{number}", {"README": f"{number}\n"}) for number in range(10)]
    services = "\n".join(f'[services.{one.path.name}]\nrepo = "{one.path}"' for one in repositories)
    with bench.agent(services, pipeline='unit_test = "echo tested"') as agent:
        time_run(agent, "web0", checks=True)
        ours, script = bench.in_turns(
            lambda: _time(agent.command("status")), lambda: bench.script("status.sh", SOCKET=str(agent.socket))
        )
    what = "`curl` of the agent's socket"
    return [Figure("`seamless status`", "ms", milliseconds(ours), Judged.MEDIAN, 400, milliseconds(script), what)]


def memory_mb(agent: Agent, field: str) -> float:
    """A field of the agent's /proc/…/status, in MB of 10⁶ bytes."""
    assert agent.process is not None
    for line in Path(f"/proc/{agent.process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ScriptError(f"the kernel does not tell {field}")


def _share_of_core(agent: Agent) -> float:
    before_s, begun = _processor_s(agent), time.monotonic()
    time.sleep(_WATCHED_S)
    return (_processor_s(agent) - before_s) / (time.monotonic() - begun) * 100


def _processor_s(agent: Agent) -> float:
    """Of the agent and of the programs that it has waited for."""
    assert agent.process is not None
    fields = Path(f"/proc/{agent.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _time(command: Sequence[str]) -> float:
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    if done.returncode != 0:
        raise ScriptError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return seconds
