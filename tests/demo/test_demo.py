"""`seamless demo` as its users meet it: a process without a terminal, a home of its own, the host's own engine."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.engine import docker
from harness.users import hand_over, unprivileged

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("demo")]  # one at a time: it is as heavy as three runs

NOTHING: dict[str, list[str]] = {kind: [] for kind in ("containers", "networks", "volumes", "images", "processes")}
_PATIENCE_S = 150  # it takes half a minute on two cores of its own


@dataclass
class Visitor:
    """Somebody who tries the demo. `as_root`: as whoever runs the tests; else as a user who is not root."""

    home: Path
    as_root: bool = True
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.home / ".local/share/seamless-demo"

    @property
    def installation(self) -> str:
        return (self.folder / "data/installation").read_text().strip()

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        argv = [sys.executable, "-m", "seamless", *arguments]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEAMLESS_", "XDG_"))}
        return argv if self.as_root else unprivileged(argv), {**kept, "HOME": str(self.home), **self.environment}

    def seamless(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv, environment = self.command(*arguments)
        return subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=_PATIENCE_S,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        argv, environment = self.command(*arguments)
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            start_new_session=True,
        )


@pytest.fixture
def home() -> Iterator[Path]:
    """A home whose path is short enough for a socket, in a folder that others may enter."""
    path = Path(tempfile.mkdtemp(prefix="seamless-home-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def visitor(home: Path) -> Iterator[Visitor]:
    one = Visitor(home)
    yield one
    one.environment.clear()
    down = one.seamless("demo", "--down")
    assert down.returncode == 0, down.stderr


def traces(visitor: Visitor, installation: str, base_image: str) -> dict[str, list[str]]:
    """What there is on this host of one demo; others may run beside it."""
    label = f"label=io.seamless.installation={installation}"
    named = [
        line
        for line in docker("image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
        if line.startswith((f"seamless-{installation}/", f"{base_image} "))
    ]
    processes = [
        _read(path).decode(errors="replace")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if os.fsencode(visitor.home) in _read(path) and b"agent" in _read(path)
    ]
    return {
        "containers": docker("container", "ls", "--all", "--filter", label, "--format", "{{.Names}}").split(),
        "networks": docker("network", "ls", "--filter", label, "--format", "{{.Name}}").split(),
        "volumes": docker("volume", "ls", "--filter", label, "--format", "{{.Name}}").split(),
        "images": named,
        "processes": processes,
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


def base_image_of(visitor: Visitor) -> str:
    return (visitor.folder / ".seamless-demo").read_text()


@pytest.mark.timeout(2 * _PATIENCE_S)
def test_the_demo_runs_through_and_goes_without_a_trace(visitor: Visitor) -> None:
    """As a user who is not root: what holds for that one holds for root."""
    visitor.as_root = False
    hand_over(visitor.home)
    done = visitor.seamless("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [line.removeprefix("$ ") for line in done.stdout.splitlines() if line.startswith("$ seamless")]
    first = re.search(r"--to ([0-9a-f]{7})", done.stdout)
    assert first is not None
    assert shown[:9] == [
        "seamless agent start",
        "seamless run notification --detach",
        "seamless run gateway",
        "seamless run payment",
        "seamless approve payment",
        "seamless run payment",
        "seamless approve payment",
        f"seamless rollback payment --to {first[1]}",
        "seamless status",
    ]
    assert "payment-1 is waiting for approval" in done.stdout
    assert re.search(r"tested against +gateway@[0-9a-f]{7}.*\(production\)", done.stdout)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"amount"')]
    assert [answer["fee"] for answer in answers] == [3, 3, 2, 3]  # staging, then production three times
    assert {answer["told"] for answer in answers} == {"the customer"}  # so services find one another

    config = str(visitor.folder / "seamless.toml")
    fleet = {one["service"]: one for one in json.loads(visitor.seamless("--config", config, "status", "--json").stdout)}
    assert fleet["payment"]["production"]["commit"].startswith(first[1])
    assert fleet["payment"]["staging"]["commit"] == fleet["payment"]["head"]["commit"]
    assert fleet["payment"]["hold"]["commit"] == fleet["payment"]["production"]["commit"]
    for service in ("gateway", "notification"):
        assert fleet[service]["production"]["commit"] == fleet[service]["head"]["commit"]
        assert fleet[service]["hold"] is None
    (url,) = {url for url in re.findall(r"http://127.0.0.1:\d+/\S+(?=')", done.stdout) if done.stdout.count(url) == 3}
    with urllib.request.urlopen(url, timeout=60) as response:
        assert json.load(response)["fee"] == 3

    again = visitor.seamless("demo")
    assert again.returncode == 5
    assert "there is a demo already" in again.stderr
    assert "seamless demo --down" in again.stderr

    installation, base = visitor.installation, base_image_of(visitor)
    before = traces(visitor, installation, base)
    assert [kind for kind, found in before.items() if not found] == ["volumes"]  # views go with their runs
    down = visitor.seamless("demo", "--down")
    assert down.returncode == 0, down.stderr
    assert traces(visitor, installation, base) == NOTHING
    assert list((visitor.home / ".local/share").iterdir()) == []

    nothing = visitor.seamless("demo", "--down")
    assert (nothing.returncode, nothing.stdout) == (0, f"there is no demo in {visitor.folder}\n")


@pytest.mark.timeout(2 * _PATIENCE_S)
def test_in_a_terminal_it_waits_for_enter_before_the_approval(visitor: Visitor) -> None:
    argv, environment = visitor.command("demo")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, {**environment, "TERM": "xterm-256color"})
    try:
        shown = _read_until(terminal, "Press Enter to approve it. ")
        assert "payment-1 is waiting for approval" in shown
        assert "seamless approve payment" not in shown.rpartition("expires")[2]
        time.sleep(1)
        status = json.loads(visitor.seamless("--config", f"{visitor.folder}/seamless.toml", "status", "--json").stdout)
        assert next(one for one in status if one["service"] == "payment")["production"] is None
        os.write(terminal, b"\n")
        assert "$ seamless approve payment" in _read_until(terminal, "payment-1 succeeded")
        os.write(terminal, b"\x03")
        assert "Remove the demo: seamless demo --down" in _read_until(terminal, "--down")
    finally:
        _, status_code = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status_code) == 130


def _read_until(terminal: int, expected: str) -> str:
    """What the terminal shows up to `expected`, with its colours and movements."""
    shown = b""
    deadline = time.monotonic() + _PATIENCE_S
    while expected.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{expected!r} never came: {shown.decode()}"
        shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")


@pytest.mark.parametrize("moment", ["$ seamless agent start", "integration_test started"])
def test_what_an_interrupted_demo_leaves_is_removed(visitor: Visitor, moment: str) -> None:
    demo = visitor.start("demo")
    assert demo.stdout is not None
    said = []
    for line in demo.stdout:
        said.append(line)
        if moment in line:
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
            break
    said.append(demo.stdout.read())
    assert demo.wait(timeout=60) == 130, said
    assert "Remove the demo: seamless demo --down" in said[-1]
    demo.stdout.close()

    base = base_image_of(visitor)
    file = visitor.folder / "data/installation"
    installation = file.read_text().strip() if file.exists() else "none"
    down = visitor.seamless("demo", "--down")
    assert down.returncode == 0, down.stderr
    time.sleep(0.5)  # an agent that was only starting would show now
    assert traces(visitor, installation, base) == NOTHING
    assert not visitor.folder.exists()


def test_an_agent_that_is_only_starting_is_ended_too(visitor: Visitor) -> None:
    """It would make anew what is removed. Slow machines have it at a Ctrl-C during `agent start`."""
    demo = visitor.start("demo")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "$ seamless agent start" in line:
            demo.kill()
            break
    demo.wait()
    demo.stdout.close()
    config = visitor.folder / "seamless.toml"
    late = "import sys, time; time.sleep(1.5); from seamless.cli.main import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", late, "--config", str(config), "agent", "run"]) as agent:
        base = base_image_of(visitor)
        down = visitor.seamless("demo", "--down")
        assert down.returncode == 0, down.stderr
        agent.wait(timeout=60)
    assert traces(visitor, "none", base) == NOTHING
    assert not visitor.folder.exists()


def test_an_agent_that_was_killed_is_no_hindrance(visitor: Visitor) -> None:
    demo = visitor.start("demo")
    assert demo.stdout is not None
    for line in demo.stdout:
        if found := re.search(r"the agent is ready \(pid (\d+)", line):
            os.kill(int(found[1]), signal.SIGKILL)
            break
    demo.stdout.read()
    assert demo.wait(timeout=_PATIENCE_S) not in (0, None)
    demo.stdout.close()
    installation, base = visitor.installation, base_image_of(visitor)
    down = visitor.seamless("demo", "--down")
    assert down.returncode == 0, down.stderr
    assert traces(visitor, installation, base) == NOTHING


def test_without_an_engine_it_says_what_to_do(visitor: Visitor) -> None:
    visitor.environment["DOCKER_HOST"] = f"unix://{visitor.home}/none.sock"
    done = visitor.seamless("demo")
    assert done.returncode == 1
    assert done.stderr.startswith("seamless: no Docker Engine answers")
    assert "sudo systemctl start docker" in done.stderr
    assert not visitor.folder.exists()


def test_without_a_docker_program_or_a_busybox_it_says_what_to_install(visitor: Visitor) -> None:
    programs = visitor.home / "bin"
    programs.mkdir()
    visitor.environment["PATH"] = str(programs)
    done = visitor.seamless("demo")
    assert (done.returncode, done.stderr.startswith("seamless: there is no docker program on the PATH")) == (1, True)
    found = shutil.which("docker")
    assert found is not None
    (programs / "docker").symlink_to(found)
    done = visitor.seamless("demo")
    assert done.returncode == 2
    assert "sudo apt-get install busybox-static" in done.stderr
    assert not visitor.folder.exists()


def test_a_busybox_that_is_not_static_is_told_and_leaves_nothing_behind_after_down(visitor: Visitor) -> None:
    programs = visitor.home / "bin"
    programs.mkdir()
    fake = programs / "busybox"
    fake.write_text("#!/bin/bash\nprintf '%s\\n' httpd sh true wget\n")
    fake.chmod(0o755)
    visitor.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    done = visitor.seamless("demo")
    assert done.returncode == 2
    assert "does not run in a container of its own" in done.stderr
    assert "sudo apt-get install busybox-static. Remove the demo: seamless demo --down" in done.stderr
    base = base_image_of(visitor)
    assert visitor.seamless("demo", "--down").returncode == 0
    assert traces(visitor, "none", base) == NOTHING
    assert not visitor.folder.exists()


def test_a_folder_that_holds_other_things_is_left_alone(visitor: Visitor) -> None:
    mine = visitor.home / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    done = visitor.seamless("demo", "--dir", str(mine))
    assert done.returncode == 2
    assert "holds other things" in done.stderr
    down = visitor.seamless("demo", "--down", "--dir", str(mine))
    assert (down.returncode, down.stdout) == (0, f"there is no demo in {mine}\n")
    assert [path.name for path in mine.iterdir()] == ["letter"]


@pytest.mark.parametrize("option", ["--config", "--socket"])
def test_another_configuration_is_refused(visitor: Visitor, option: str) -> None:
    done = visitor.seamless(option, "/nowhere", "demo")
    assert done.returncode == 2
    assert "the demo has a configuration of its own" in done.stderr
