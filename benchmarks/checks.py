"""Checks-only runs of trivial commands: one, its first moments, and many at once."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.bench import Bench, ScriptError, boot_s, longest_stall, milliseconds, quiet, time_run
from benchmarks.figures import Figure, Judged
from harness.agents import Agent
from harness.engine import docker
from seamless.agent.stalls import STALL_LOG
from seamless.client import Client
from seamless.transitions import RUN_ENDED

_COMMANDS = {"install": "echo installed", "code_quality": "echo tidy", "unit_test": "echo tested"}
_VARIABLES = {name.upper(): command for name, command in _COMMANDS.items()}
_PIPELINE = "\n".join(f'{name} = "{command}"' for name, command in _COMMANDS.items())
SAYS_WHEN = 'read up rest </proc/uptime; echo "up $up"'
WHEN = re.compile(r"^up (\d+\.\d+)$", re.M)
_SERVICES = 10
_BRANCHES = 5  # of each service


def checks_only(bench: Bench) -> list[Figure]:
    """A commit, then its checks."""
    repository = bench.repository("web", {"README": "a service\n"})
    with bench.agent(f'[services.web]\nrepo = "{repository.path}"', pipeline=_PIPELINE) as agent:

        def ours() -> float:
            repository.commit()
            return time_run(agent, "web", checks=True).seconds

        def beside() -> float:
            repository.commit()
            return bench.script("checks.sh", REPOSITORY=str(repository.path), **_VARIABLES)

        run, script = bench.in_turns(ours, beside)
    what = "clone, three `docker run --rm`"
    name = "checks-only run, trigger to end"
    return [Figure(name, "ms", milliseconds(run), Judged.RATIO, 0.4, milliseconds(script), what)]


def first_command(bench: Bench) -> list[Figure]:
    """How long until something happens, and until somebody sees it."""
    repository = bench.repository("web", {"README": "a service\n"})
    pipeline = f"install = '{SAYS_WHEN}'"
    with bench.agent(f'[services.web]\nrepo = "{repository.path}"', pipeline=pipeline) as agent:
        holder = docker("run", "--detach", "--init", "--label", bench.label, bench.image, "sleep", "1000000")
        lines: list[float] = []
        script_lines: list[float] = []

        def ours() -> float:
            begun = boot_s()
            run = agent.client.start_run("web", checks=True)["id"]
            said = ""
            for chunk in agent.client.follow_log(run, "prepare"):
                arrived = boot_s()
                said += chunk.decode()
                if found := WHEN.search(said):
                    break
            else:
                raise ScriptError(f"the first command of {run} said nothing:\n{said}")
            lines.append(arrived - float(found[1]))
            quiet(agent)
            return float(found[1]) - begun

        def script(join: str) -> float:
            begun, line, arrived = bench.first_line("first-command.sh", JOIN=join, COMMAND=SAYS_WHEN)
            said = float(line.split()[1])
            if not join:
                script_lines.append(arrived - said)
            return said - begun

        run, plain, joined = bench.in_turns(ours, lambda: script(""), lambda: script(f"--network=container:{holder}"))
    limit = Judged.DIFFERENCE, 150
    beside, beside_joined = "to the same by `docker run`", "by `docker run --network=container:…`"
    ms = milliseconds
    return [
        Figure("trigger to first command in a container", "ms", ms(run), *limit, ms(plain), beside),
        Figure("  the same, beside a network made ahead", "ms", ms(run), *limit, ms(joined), beside_joined),
        Figure(
            "  from there to its first line in a following client",
            "ms",
            ms(lines[1:]),
            Judged.MEDIAN,
            50,
            ms(script_lines[1:]),
            "to a line of `docker run`",
        ),
    ]


def ten_at_once(bench: Bench) -> list[Figure]:
    """Ten services, a checks-only run of each, triggered together; in slots as an agent has them by default."""
    repositories = [bench.repository(f"web{number}", {"README": f"{number}\n"}).path for number in range(_SERVICES)]
    with bench.agent(_services(repositories), pipeline=_PIPELINE) as agent:
        run, script = bench.in_turns(
            lambda: _run_at_once(agent, [(path.name, "main") for path in repositories]),
            lambda: _script_at_once(bench, [(path, "main") for path in repositories]),
        )
    rates = [[_SERVICES / seconds * 60 for seconds in samples] for samples in (run, script)]
    what = "ten of the scripts at once"
    return [
        Figure("10 checks-only runs at once", "a minute", rates[0], Judged.MEDIAN, 60, rates[1], what, at_least=True)
    ]


def fifty_at_once(bench: Bench) -> list[Figure]:
    """Five branches of each of ten services, triggered together."""
    branches = [f"change-{number}" for number in range(_BRANCHES)]
    repositories = []
    for number in range(_SERVICES):
        repository = bench.repository(f"web{number}", {"README": f"{number}\n"})
        for branch in branches:
            repository.git("switch", "--quiet", "--create", branch, "main")
            repository.commit({"change": branch})
        repositories.append(repository.path)
    references = [(path, branch) for path in repositories for branch in branches]
    stalls = bench.folder / "stalls"
    with bench.agent(_services(repositories), pipeline=_PIPELINE, environment={STALL_LOG: str(stalls)}) as agent:
        longest: list[tuple[float, float]] = []

        def ours() -> float:
            stalls.write_text("")
            seconds = _run_at_once(agent, [(path.name, branch) for path, branch in references])
            longest.append(longest_stall(stalls))
            return seconds

        run, script = bench.in_turns(ours, lambda: _script_at_once(bench, references), warm_up=False)
    late, computed = (milliseconds([stall[part] for stall in longest]) for part in (0, 1))
    name = "50 checks-only runs at once (10 services, 5 branches each)"
    return [
        Figure(name, "s", run, Judged.MEDIAN, 45, script, "fifty of the scripts, ten at a time"),
        Figure("  longest stall of the event loop in these", "ms", late, Judged.WORST, 100),
        Figure("    of which it computed itself", "ms", computed, Judged.WORST, None),
    ]


def _services(repositories: Sequence[Path]) -> str:
    return "\n".join(f'[services.{path.name}]\nrepo = "{path}"' for path in repositories)


def _run_at_once(agent: Agent, references: Sequence[tuple[str, str]]) -> float:
    """Triggers checks-only runs of these (service, branch); seconds until all have succeeded."""
    client = agent.client
    after = _newest_event(client)
    begun = time.monotonic()
    with ThreadPoolExecutor(10) as threads:
        started = threads.map(lambda one: client.start_run(one[0], ref=one[1], checks=True)["id"], references)
        running = set(started)
    for event in client.stream_events(after=after):
        if event["kind"] == "run" and event["to_state"] in RUN_ENDED:
            if event["to_state"] != "success":
                raise ScriptError(f"{event['run']} ended as {event['to_state']}: {event['reason']}")
            running.discard(event["run"] or "")
            if not running:
                break
    seconds = time.monotonic() - begun
    quiet(agent)
    return seconds


def _newest_event(client: Client) -> int:
    newest = 0
    while page := client.events(after=newest, limit=1000):
        newest = page[-1]["id"]
    return newest


def _script_at_once(bench: Bench, references: Sequence[tuple[Path, str]]) -> float:
    lines = "\n".join(f"{path} {branch}" for path, branch in references)
    return bench.script("checks-at-once.sh", REFERENCES=lines, AT_ONCE="10", **_VARIABLES)
