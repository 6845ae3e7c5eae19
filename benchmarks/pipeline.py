"""Full runs on the Docker target, and builds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from benchmarks.bench import Bench, milliseconds, time_run
from benchmarks.figures import Figure, Judged
from harness.agents import Agent
from harness.repositories import Repository

_SLEEP_S = 0.2
_PATH = 5  # stages in a row: prepare, the three beside each other, the test, two deployments
_DOCKERFILE = """\
FROM {image}
COPY www /www
{more}
CMD ["/bin/sh", "-c", "sleep ${{WARM_UP:-0}}; exec httpd -f -p 8080 -h /www"]
"""
_COMPOSE = """\
services:
  web:
    image: ${{CANDIDATE:-web}}
    init: true
  tests:
    image: {image}
    command: sh -c 'until wget -q -O - http://web:8080/healthz; do sleep 0.1; done; {more}'
    depends_on: [web]
"""
_SERVICE = """\
[services.{name}]
repo = "{path}"
install = "{commands[INSTALL]}"
code_quality = "{commands[CODE_QUALITY]}"
unit_test = "{commands[UNIT_TEST]}"
env = {{ WARM_UP = "{warm_up}" }}
auto_deploy = true
port = 8080
health = "/healthz"
integration_test = {{ compose_file = "compose.yml", test_service = "tests", map = {{ web = "{name}" }} }}
"""


class _Web:
    """A service with every stage, each of which takes `sleep_s` beyond its own time."""

    def __init__(self, bench: Bench, name: str, sleep_s: float = 0) -> None:
        self._bench = bench
        self._name = name
        self._sleep_s = sleep_s
        sleep = f"sleep {sleep_s}" if sleep_s else ""
        command = sleep or "true"
        self._commands = dict.fromkeys(("INSTALL", "CODE_QUALITY", "UNIT_TEST"), command)
        files = {
            "Dockerfile": _DOCKERFILE.format(image=bench.image, more=f"RUN {sleep}" if sleep else ""),
            "compose.yml": _COMPOSE.format(image=bench.image, more=command),
            "www/healthz": "well\n",
        }
        self.repository: Repository = bench.repository(name, files)
        self._versions = itertools.count()

    @property
    def configuration(self) -> str:
        return _SERVICE.format(
            name=self._name, path=self.repository.path, commands=self._commands, warm_up=self._sleep_s
        )

    def commit(self) -> None:
        """Something that the build cannot have in its cache."""
        self.repository.commit({"www/version": f"{self._name} {next(self._versions)}\n"})

    def run(self, agent: Agent) -> float:
        self.commit()
        return time_run(agent, self._name).seconds

    def script(self) -> float:
        self.commit()
        return self._bench.script(
            "full.sh",
            REPOSITORY=str(self.repository.path),
            SERVICE=f"seamless-bench-{self._name}",
            WARM_UP=str(self._sleep_s),
            **self._commands,
        )


def full(bench: Bench) -> list[Figure]:
    """A commit, then every stage: into empty environments, and in place of what runs there."""
    news = [_Web(bench, f"new{number}") for number in range(bench.repeat)]
    web = _Web(bench, "web")
    with bench.agent("\n".join(one.configuration for one in [*news, web])) as agent:
        replaced, script_replaced = bench.in_turns(lambda: web.run(agent), web.script)
        for_ours, for_script = iter(news), iter(news)
        first, script_first = bench.in_turns(
            lambda: next(for_ours).run(agent), lambda: next(for_script).script(), warm_up=False
        )
    what = "clone, three `docker run`, build, Compose, two deployments"
    return [
        Figure("full run, nothing deployed before", "s", first, Judged.RATIO, 0.6, script_first, what),
        Figure("full run, another version deployed before", "s", replaced, Judged.RATIO, 0.6, script_replaced, what),
    ]


def critical_path(bench: Bench) -> list[Figure]:
    """What 0.2 s more in each of the seven stages cost."""
    quick, slow = _Web(bench, "quick"), _Web(bench, "slow", _SLEEP_S)
    with bench.agent(quick.configuration + slow.configuration) as agent:
        measures: list[Callable[[], float]] = [
            *(lambda: quick.run(agent), lambda: slow.run(agent)),
            *(quick.script, slow.script),
        ]
        samples = bench.in_turns(*measures)
    ours, script = ([long - short for short, long in zip(samples[at], samples[at + 1], strict=True)] for at in (0, 2))
    path_s, all_s = _PATH * _SLEEP_S, 7 * _SLEEP_S
    name = f"0.2 s of sleep in each stage: added to a full run (critical path {path_s:g} s, sum {all_s:g} s)"
    return [Figure(name, "s", ours, Judged.MEDIAN, (path_s + all_s) / 2, script, "the same in the script")]


def rebuild(bench: Bench) -> list[Figure]:
    """A build that finds everything in its cache. Of another branch: the run ends after it."""
    files = {"Dockerfile": _DOCKERFILE.format(image=bench.image, more=""), "www/healthz": "well\n"}
    repository = bench.repository("web", files)
    repository.git("branch", "other")
    numbers = itertools.count()
    with bench.agent(f'[services.web]\nrepo = "{repository.path}"') as agent:

        def beside() -> float:
            variables = {"SOURCE": str(repository.path), "TAG": "seamless-bench-build", "NUMBER": str(next(numbers))}
            return bench.script("build.sh", **variables)

        run, script = bench.in_turns(
            lambda: time_run(agent, "web", ref="other", rebuild=True).stage_s("build"),
            beside,
        )
    name = "rebuild without a change: the stage, beyond the builder's own time"
    return [Figure(name, "ms", milliseconds(run), Judged.DIFFERENCE, 150, milliseconds(script), "`docker build`")]
