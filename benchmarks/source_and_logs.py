"""Large repositories and large logs."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from benchmarks.bench import Bench, milliseconds, time_run
from benchmarks.figures import Figure, Judged
from benchmarks.standing import memory_mb
from harness.agents import Agent

_FILES = 5_000
_FILE_BYTES = 5_800  # 29 MB in all
_CHANGED = 50
_LINES = 1_000_000
_LINE_BYTES = 100
_SECRETS = 5
_BARE_READER = Path(__file__).with_name("bare_reader.py")


def prepare(bench: Bench) -> list[Figure]:
    """A commit that changes 50 of 5,000 files; the run before it has ended, and left its tree."""
    dice = random.Random(5_000)

    def content() -> str:
        return "".join(f"{dice.getrandbits(256):064x}\n" for _ in range(_FILE_BYTES // 65))

    names = [f"src/part{number % 100}/file{number}" for number in range(_FILES)]
    repository = bench.repository("large", {name: content() for name in names})
    kept = bench.folder / "kept"
    repository.git("clone", "--quiet", str(repository.path), str(kept))

    def change() -> None:
        repository.commit({name: content() for name in dice.sample(names, _CHANGED)})

    with bench.agent(f'[services.large]\nrepo = "{repository.path}"') as agent:

        def ours() -> float:
            change()
            return time_run(agent, "large", checks=True).stage_s("prepare")

        def update() -> float:
            change()
            return bench.script("update.sh", SOURCE=str(kept))

        run, updated, cloned = bench.in_turns(
            ours, update, lambda: bench.script("clone.sh", REPOSITORY=str(repository.path))
        )
    ms = milliseconds
    name = f"prepare of {_FILES:,} files, {_CHANGED} of them changed"
    return [
        Figure(name, "ms", ms(run), Judged.MEDIAN, 300, ms(updated), "`git fetch`, `reset`, `clean` in a kept clone"),
        Figure("  the same", "ms", ms(run), Judged.RATIO, None, ms(cloned), "`git clone --depth 1`"),
    ]


def log(bench: Bench) -> list[Figure]:
    """A container that writes a million lines as fast as it can, with secrets that are looked for in each."""
    repository = bench.repository("web", {"README": "a service\n"})
    command = f"yes $(printf %0{_LINE_BYTES - 1}d 7) | head -n {_LINES}"
    secrets = {f"SECRET{number}": f"a secret, number {number}" for number in range(_SECRETS)}
    references = ", ".join(f'{name} = {{ env = "{name}", expose = ["pr"] }}' for name in secrets)
    service = f'[services.web]\nrepo = "{repository.path}"\nsecrets = {{ {references} }}\nunit_test = """{command}"""'
    grown: list[float] = []
    with bench.agent(service, environment=secrets) as agent:

        def ours() -> float:
            before_mb = memory_mb(agent, "VmRSS")
            _forget_peak(agent)
            timed = time_run(agent, "web", checks=True)
            grown.append(memory_mb(agent, "VmHWM") - before_mb)
            size = agent.client.log_size(timed.run["id"], "unit_test")
            assert size >= _LINES * _LINE_BYTES, f"the log has {size} bytes only"
            return timed.stage_s("unit_test")

        def script(reader: str) -> float:
            return bench.script("log.sh", COMMAND=command, BYTES=str(_LINES * _LINE_BYTES), READER=reader)

        bare, tail = f"{sys.executable} {_BARE_READER}", "tail --follow --bytes=+1 --sleep-interval=0.01 --pid"
        run, by_bare, by_tail = bench.in_turns(ours, lambda: script(bare), lambda: script(tail))
    what = "`docker run` into a file, and a bare reader of it"
    return [
        Figure("one million log lines (100 MB), the stage", "s", run, Judged.RATIO, 1.3, by_bare, what),
        Figure(
            "  the same", "s", run, Judged.RATIO, None, by_tail, "`docker run` into a file, and `tail --follow` of it"
        ),
        Figure("  the agent's memory grew in it by at most", "MB", grown[1:], Judged.WORST, 20),
    ]


def _forget_peak(agent: Agent) -> None:
    """Has the kernel begin anew with VmHWM."""
    assert agent.process is not None
    with open(f"/proc/{agent.process.pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
