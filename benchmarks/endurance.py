"""The long loops of the fault suite, and what is too large for it. Prints a line of figures for each, and fails by one.

Arguments name the loops (default: all); --kills and --rounds say how often. What each checks besides is in
tests/harness: after a loop nothing is lost, nothing was done twice, and nothing is left.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.agents import Agent, stages
from harness.engine import docker, import_busybox
from harness.invariants import assert_accounted_for
from harness.killing import KillLoop
from harness.racing import race
from harness.repositories import Repository
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON

_CHECKED_EVERY: Final = 100  # kills
_TICKS: Final = "while :; do echo tick; sleep 0.05; done"
_GB: Final = 1_000_000_000
_FLOOD: Final = (
    "awk 'BEGIN {{ for (i = 1; i <= {lines}; i++) printf \"%07d the quick brown fox jumps over the lazy dog\\n\", i }}'"
)


@dataclass(frozen=True)
class Asked:
    image: str
    kills: int
    rounds: int
    seed: int


def kills(asked: Asked) -> str:
    """SIGKILLs at random moments of concurrent runs, with a rest after every hundred, in which all is checked."""
    with _agent(asked) as (agent, folder):
        begun = time.monotonic()
        loop = KillLoop(agent, folder, asked.seed)
        while (left := asked.kills - loop.tally.kills) > 0:
            told = loop.play(min(left, _CHECKED_EVERY))
            print(f"kills: {told.kills} of {asked.kills}, {told.runs} runs, none lost so far", flush=True)
        took_s = time.monotonic() - begun
        starting = loop.tally.while_starting
    return f"{asked.kills} kills ({starting} while starting) of {loop.tally.runs} runs in {took_s:.0f} s: none lost"


def adoption(asked: Asked) -> str:
    """From the start of an agent to the adoption of four containers that its killed predecessor left running."""
    seconds = []
    with _agent(asked) as (agent, folder):
        repository = _repository(folder, asked.image)
        service = f'repo = "{repository.path}"\nunit_test = "{_TICKS}"\ncode_quality = "{_TICKS}"\n'
        agent.configure(f"[services.a]\n{service}[services.b]\n{service}")
        agent.start()
        logs = [(f"{name}-1", stage) for name in "ab" for stage in ("unit_test", "code_quality")]
        for name in "ab":
            agent.client.start_run(name, checks=True)
        for run, stage in logs:
            agent.wait_log(run, stage, "tick", within_s=60)
        for _ in range(10):
            agent.kill()
            before = {log: _size(agent, *log) for log in logs}
            begun = time.monotonic()
            agent.spawn()
            while not all(_size(agent, *log) > before[log] for log in logs):
                assert time.monotonic() - begun < 10, agent.said()
                time.sleep(0.01)
            seconds.append(time.monotonic() - begun)
            agent.await_ready()
        for name in "ab":
            agent.client.cancel(f"{name}-1", "enough")
            agent.wait_run(f"{name}-1", RUN_ENDED)
        assert_accounted_for(agent)
    return f"four containers adopted {min(seconds):.2f}-{max(seconds):.2f} s after the start, 10 times; at most 10 s"


def races(asked: Asked) -> str:
    """A hundred clients approve or reject at once."""
    with _agent(asked) as (agent, folder):
        repository = _repository(folder, asked.image)
        agent.configure(f'[services.web]\nrepo = "{repository.path}"\nuse_staging = false')
        agent.start()
        agent.run("web")
        agent.client.reject("web-1", "not this one")
        agent.wait_run("web-1", RUN_ENDED)
        rng = random.Random(asked.seed)
        won = [race(agent, rng) for _ in range(asked.rounds)]
        assert_accounted_for(agent)
    told = f"{won.count('approve')} approvals, {won.count('reject')} rejects"
    return f"{asked.rounds} races of 100: one winner each ({told})"


def gigabyte(asked: Asked) -> str:
    """A log of 1 GB, and one of which the cap keeps a tenth."""
    with _agent(asked) as (agent, folder):
        repository = _repository(folder, asked.image)
        flood = f"head -c {_GB} /dev/zero | tr '\\\\0' x; echo; echo end"
        agent.configure(f'[services.web]\nrepo = "{repository.path}"\nunit_test = "{flood}"')
        agent.start()
        before = _memory_mib(agent)
        begun = time.monotonic()
        _must_succeed(agent.wait_run(agent.client.start_run("web", checks=True)["id"], RUN_ENDED, within_s=600))
        took_s = time.monotonic() - begun
        assert _size(agent, "web-1", "unit_test") >= _GB
        agent.stop()
        agent.configure(f'[services.web]\nrepo = "{repository.path}"\nunit_test = "{flood}"', agent='log_cap = "100m"')
        agent.start()
        _must_succeed(agent.wait_run(agent.client.start_run("web", checks=True)["id"], RUN_ENDED, within_s=600))
        size = _size(agent, "web-2", "unit_test")
        assert 100 * 2**20 < size < 101 * 2**20, size
        assert (
            "more bytes of output were not kept" in (agent.data_dir / "logs/web/web-2/unit_test.log").read_text()[-200:]
        )
        memory = _memory_mib(agent) - before
        assert memory < 64, memory
        assert_accounted_for(agent)
    return f"1 GB stored in {took_s:.1f} s and cut at a cap of 100 MiB with a marker; {memory:.0f} MiB more memory"


def floods(asked: Asked) -> str:
    """As many lines as four containers at once can print."""
    lines = 2_000_000
    with _agent(asked) as (agent, folder):
        repository = _repository(folder, asked.image)
        flood = _FLOOD.format(lines=lines)
        checks = f"unit_test = '''{flood}'''\ncode_quality = '''{flood}'''\n"
        agent.configure(f'[services.web]\nrepo = "{repository.path}"\n{checks}')
        agent.start()
        before = _memory_mib(agent)
        begun = time.monotonic()
        for run in [agent.client.start_run("web", checks=True)["id"] for _ in range(2)]:
            _must_succeed(agent.wait_run(run, RUN_ENDED, within_s=600))
        took_s = time.monotonic() - begun
        memory = _memory_mib(agent) - before
        for run in ("web-1", "web-2"):
            for stage in ("unit_test", "code_quality"):
                with open(agent.data_dir / f"logs/web/{run}/{stage}.log", "rb") as log:
                    assert sum(1 for _ in log) == lines
        assert memory < 64, memory
        assert_accounted_for(agent)
    return f"4 x {lines:,} lines in {took_s:.1f} s, {4 * lines / took_s:,.0f} a second; {memory:.0f} MiB more memory"


def files(asked: Asked) -> str:
    """A repository of 100,000 files."""
    with _agent(asked) as (agent, folder):
        repository = _repository(folder, asked.image)
        for number in range(100_000):
            path = repository.path / f"d{number % 100:02}" / f"e{number // 100 % 10}" / f"file-{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}\n")
        repository.commit()
        agent.configure(
            f'[services.web]\nrepo = "{repository.path}"\nunit_test = "find d* -type f | wc -l; cat d99/e9/file-99999"'
        )
        agent.start()
        seconds = []
        for number in (1, 2):
            begun = time.monotonic()
            _must_succeed(agent.wait_run(agent.client.start_run("web", checks=True)["id"], RUN_ENDED, within_s=600))
            seconds.append(time.monotonic() - begun)
            assert agent.read_log(f"web-{number}", "unit_test").split() == ["100000", "99999"]
            repository.commit({"d00/e0/file-0": f"changed {number}\n"})
        assert_accounted_for(agent)
    return f"the checks of 100,000 files: {seconds[0]:.1f} s, and {seconds[1]:.1f} s after a change of one"


LOOPS: Mapping[str, Callable[[Asked], str]] = {
    each.__name__: each for each in (adoption, races, gigabyte, floods, files, kills)
}


@contextmanager
def _agent(asked: Asked) -> Iterator[tuple[Agent, Path]]:
    with tempfile.TemporaryDirectory(prefix="seamless-endurance-") as folder:
        agent = Agent(Path(folder), asked.image)
        try:
            yield agent, Path(folder)
        finally:
            agent.finish(clean=False)


def _repository(folder: Path, image: str) -> Repository:
    repository = Repository(folder / "web")
    repository.commit({"Dockerfile": f'FROM {image}\nCMD ["/bin/sleep", "1000000"]\n'})
    return repository


def _must_succeed(run: RunJSON) -> None:
    assert run["state"] == "success", stages(run)


def _size(agent: Agent, run: str, stage: str) -> int:
    return (agent.data_dir / "logs" / run.rpartition("-")[0] / run / f"{stage}.log").stat().st_size


def _memory_mib(agent: Agent) -> float:
    """The most that the agent's process has held."""
    assert agent.process is not None
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{agent.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> int:
    """0 when every loop went through."""
    parser = argparse.ArgumentParser(prog="scripts/endure", description=__doc__)
    parser.add_argument("loops", nargs="*", metavar="LOOP", help=", ".join(LOOPS))
    parser.add_argument("--kills", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="races")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), metavar="N")
    arguments = parser.parse_args()
    if unknown := set(arguments.loops) - set(LOOPS):
        parser.error(f"there is no loop {', '.join(sorted(unknown))}")
    failed = False
    image = import_busybox()
    print(f"seed {arguments.seed}", flush=True)
    try:
        for name in arguments.loops or LOOPS:
            try:
                told = LOOPS[name](Asked(image, arguments.kills, arguments.rounds, arguments.seed))
            except Exception as error:
                failed = True
                told = f"FAILED: {type(error).__name__}: {error}"
            print(f"{name}: {told}", flush=True)
    finally:
        docker("image", "rm", "--force", image, check=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
