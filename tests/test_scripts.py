"""scripts/setup on machines that lack something: told what it does, or what to type. The far ends are fake programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.fake

ROOT = Path(__file__).parent.parent
_TOOLS = "bash cat chmod dirname env grep head id mkdir mv rm setsid sha256sum sleep tail timeout tr".split()  # noqa: SIM905
_SYSTEMD = Path("/run/systemd/system").exists()
SUITS = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"


class Machine:
    """A PATH of its own with a few of the host's programs, and fakes that note how they are called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.notes = folder / "notes"
        self.project = folder / "project"
        self.bin.mkdir()
        (self.project / "scripts").mkdir(parents=True)
        (self.project / ".venv").mkdir()
        shutil.copy(ROOT / "scripts/setup", self.project / "scripts/setup")
        self.fake("python3", "")
        for tool in _TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.bin / tool).symlink_to(found)

    def fake(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>{self.notes}\n{script}\n')
        path.chmod(0o755)

    def install(self, *names: str) -> None:
        """What is there and works, as far as setup looks."""
        fakes = {
            "git": "",
            "busybox": "printf '%s\\n' ash httpd wget",
            "docker": '[ "$1" != compose ] && echo 20.10.24',
            "dockerd": "",
            "docker-compose": "",
        }
        for name in names:
            self.fake(name, fakes[name])

    def be_user(self) -> None:
        """Somebody without root and without sudo."""
        self.fake("id", "case $* in -u) echo 1000 ;; *) echo sam ;; esac")

    def be_root(self) -> None:
        self.fake("id", "case $* in -u) echo 0 ;; *) echo root ;; esac")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """A script after the functions of scripts/setup."""
        return subprocess.run(
            [self.bin / "bash", "-c", f". scripts/setup; {script}"],
            cwd=self.project,
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def calls(self, program: str) -> list[str]:
        noted = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line for line in noted if line.startswith(f"{program} ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_root_and_sudo_it_prints_what_to_type(machine: Machine) -> None:
    machine.be_user()
    machine.fake("apt-get", "exit 1")
    machine.fake("apt-cache", "exit 1")
    machine.install("busybox")
    done = machine.run("set_up")
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends git docker.io docker-compose\n" in done.stderr
    assert "sudo usermod -aG docker sam" in done.stderr
    assert machine.calls("apt-get") == []


def test_root_installs_what_is_missing_and_says_so_first(machine: Machine) -> None:
    machine.be_root()
    machine.install("git", "docker", "dockerd")
    machine.fake("apt-get", "")
    done = machine.run("set_up_python() { :; }; set_up openssh-server")
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.splitlines()[:2]
    assert first == "setup: installing with apt-get: busybox-static docker-compose"
    assert second == "setup: installing with apt-get: openssh-server"
    assert [call.split()[1] for call in machine.calls("apt-get")] == ["update", "install"] * 2


def test_where_all_is_there_it_does_and_says_nothing(machine: Machine) -> None:
    machine.be_user()
    machine.install("git", "busybox", "docker", "docker-compose")
    done = machine.run("set_up_python() { :; }; set_up")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_engine_that_this_user_may_not_use_is_told(machine: Machine) -> None:
    machine.be_user()
    machine.install("git", "busybox", "docker-compose")
    machine.fake("docker", 'case $* in *Client*) echo 20.10 ;; *) echo "permission denied" >&2; exit 1 ;; esac')
    done = machine.run("set_up_python() { :; }; set_up")
    assert done.returncode == 1
    assert "sam may not use the Docker Engine" in done.stderr
    assert "sudo usermod -aG docker sam" in done.stderr
    assert "apt-get" not in done.stderr


def test_a_client_that_cannot_build_gets_its_builder(machine: Machine) -> None:
    """As on Debian 13."""
    machine.be_root()
    machine.install("git", "busybox", "docker-compose", "dockerd")
    machine.fake("docker", "case $* in buildx*) exit 1 ;; *) echo 26.1.5 ;; esac")
    machine.fake("apt-cache", "exit 0")
    machine.fake("apt-get", "exit 0")
    done = machine.run("set_up_python() { :; }; set_up")
    assert "installing with apt-get: docker-cli docker-buildx\n" in done.stderr


@pytest.mark.skipif(_SYSTEMD, reason="where systemd runs, it starts the engine")
def test_an_engine_is_started_and_only_that_one_is_stopped(machine: Machine) -> None:
    machine.be_root()
    machine.install("git", "busybox", "docker-compose")
    up = machine.project / "up"
    machine.fake("dockerd", f'echo -n $$ >"$2"; echo >{up}; exec -a "dockerd $*" sleep 60')
    machine.fake("docker", f"case $* in *Client*) echo 20.10 ;; *) [ -e {up} ] ;; esac")
    anew = 'rm -rf "$venv"; mkdir "$venv"'  # as for another Python
    done = machine.run(f'set_up_python() {{ :; }}; set_up; cat "$pid_file"; echo; {anew}; stop_engine')
    assert done.returncode == 0, done.stderr
    pid = done.stdout.split()[0]
    assert "starting dockerd, with its log in" in done.stderr
    assert f"stopping the dockerd that was started here (pid {pid})" in done.stderr
    assert not Path("/proc", pid).exists()

    with subprocess.Popen(["sleep", "60"]) as stranger:  # which has that number now
        (machine.project / ".dockerd.pid").write_text(str(stranger.pid))
        done = machine.run("stop_engine")
        assert (done.returncode, done.stderr, stranger.poll()) == (0, "", None)
        stranger.kill()


@pytest.mark.skipif(_SYSTEMD, reason="where systemd runs, it starts the engine")
def test_an_engine_that_does_not_start_is_told_with_its_last_words(machine: Machine) -> None:
    machine.be_root()
    machine.install("git", "busybox", "docker-compose")
    machine.fake("dockerd", "echo no space left >&2; exit 1")
    machine.fake("docker", "case $* in *Client*) echo 20.10 ;; *) exit 1 ;; esac")
    done = machine.run("set_up_python() { :; }; set_up")
    assert done.returncode == 1
    assert done.stderr.endswith("dockerd does not answer; the end of its log:\nno space left\n")


def test_what_hangs_is_ended_and_named(machine: Machine) -> None:
    machine.fake("hangs", "exec sleep 600")
    done = machine.run('within 1 "the dance" hangs on')
    assert done.returncode == 1
    assert "setup: the dance has not ended after 1 s: hangs on\n" in done.stderr
    machine.fake("fails", "exit 7")
    done = machine.run('within 60 "the dance" fails; echo not reached')
    assert (done.returncode, done.stdout) == (7, "")


@pytest.mark.skipif(_SYSTEMD, reason="where systemd runs, it starts the engine")
def test_an_engine_that_does_not_end_is_killed(machine: Machine) -> None:
    machine.be_root()
    machine.install("git", "busybox", "docker-compose")
    up = machine.project / "up"
    deaf = "trap '' TERM; echo >{up}; while :; do sleep 0.1; done"
    machine.fake("dockerd", f'echo -n $$ >"$2"; {deaf.format(up=up)}')
    machine.fake("docker", f"case $* in *Client*) echo 20.10 ;; *) [ -e {up} ] ;; esac")
    done = machine.run('set_up_python() { :; }; engine_stops_s=1; set_up; cat "$pid_file"; echo; stop_engine')
    assert done.returncode == 0, done.stderr
    assert "it has not ended after 1 s: killing it" in done.stderr


def test_a_remote_engine_that_does_not_answer_is_not_replaced(machine: Machine) -> None:
    machine.be_root()
    machine.install("git", "busybox", "docker-compose", "dockerd")
    machine.fake("docker", "case $* in *Client*) echo 20.10 ;; *) exit 1 ;; esac")
    done = machine.run("set_up_python() { :; }; export DOCKER_HOST=tcp://far:2375; set_up")
    assert done.returncode == 1
    assert "no Docker Engine answers at DOCKER_HOST=tcp://far:2375" in done.stderr
    assert machine.calls("dockerd") == []


def test_the_distributions_python_is_taken_before_that_of_the_path(machine: Machine) -> None:
    suits = subprocess.run(["/usr/bin/python3", "-c", SUITS], check=False).returncode == 0
    done = machine.run('find_python; echo "$python"')
    assert done.stdout == ("/usr/bin/python3\n" if suits else "python3\n")


def test_an_environment_of_another_python_is_made_anew(machine: Machine) -> None:
    """As when a newer one has come, or the one it was made with has gone."""
    for made_with, of_it in (("/usr 3 11", "yes"), ("/usr 3 10", "no"), ("/opt 3 11", "no"), (None, "no")):
        environment = machine.project / ".venv/bin/python"
        environment.parent.mkdir(exist_ok=True)
        environment.unlink(missing_ok=True)
        if made_with is not None:
            environment.write_text(f"#!/bin/bash\necho {made_with}\n")
            environment.chmod(0o755)
        machine.fake("python3", "echo /usr 3 11")
        done = machine.run("python=python3; is_of_python && echo yes || echo no")
        assert (made_with, done.stdout) == (made_with, f"{of_it}\n")
