"""An agent on another host: through a real sshd on loopback."""

from __future__ import annotations

import getpass
import os
import pwd
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forges.servers import SshServer
from seamless.cli.forwarding import DEFAULT_SOCKET, Remote, remote_of
from seamless.errors import UsageError

from .conftest import Seamless
from .fake_agent import FakeAgent, run

pytestmark = pytest.mark.fake


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://build-host", Remote("build-host", None, DEFAULT_SOCKET)),
        ("ssh://build-host/", Remote("build-host", None, DEFAULT_SOCKET)),
        ("ssh://dana@build-host:2222/run/x/a.sock", Remote("dana@build-host", 2222, "/run/x/a.sock")),
    ],
)
def test_urls(url: str, expected: Remote) -> None:
    assert remote_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "build-host",
        "http://x",
        "ssh://",
        "ssh://-oProxyCommand=id",
        "ssh://a:b@c",
        "ssh://h:x",
        "ssh://h?x",
        "ssh://h\n",
        "ssh://-x@h",
    ],
)
def test_what_is_no_host(url: str) -> None:
    with pytest.raises(UsageError):
        remote_of(url)


@pytest.fixture(scope="module")
def sshd() -> Iterator[SshServer]:
    with tempfile.TemporaryDirectory(prefix="s") as folder:
        os.chmod(folder, 0o755)
        server = SshServer(Path(folder))
        (Path(folder) / "authorized").chmod(0o644)
        with server.serving():
            yield server


@pytest.fixture
def client(sshd: SshServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user whose ssh knows the host and has the key; the URL without a path."""
    program = home / "bin" / "ssh"  # OpenSSH takes the home of the password file, not HOME: hence a program before it
    program.parent.mkdir()
    known = sshd.known_hosts("host")
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F none -i {sshd.key} -o UserKnownHostsFile={known} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}"


def test_a_command_and_a_stream_go_through(seamless: Seamless, agent: FakeAgent, client: str) -> None:
    agent.runs["payment-42"] = run("payment-42", state="success")
    url = f"{client}{agent.socket}"
    done = seamless("--host", url, "show", "payment-42", SEAMLESS_SOCKET="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "payment-42" in done.stdout
    agent.answers["POST", "services/payment/runs"] = (201, agent.runs["payment-42"])
    agent.runs["payment-42"]["state"] = "idle"
    agent.move("payment-42", "in_progress")
    agent.move("payment-42", "success")
    done = seamless("run", "payment", SEAMLESS_HOST=url, SEAMLESS_SOCKET="")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_left(seamless: Seamless, agent: FakeAgent, client: str, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    agent.runs["payment-42"] = run("payment-42")
    url = f"{client}{agent.socket}"
    done = seamless("--host", url, "show", "payment-42", SEAMLESS_SOCKET="", TMPDIR=str(tmp_path / "t"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nowhere/agent.sock", "no agent answers at /nowhere/agent.sock on "),
        ("", "no agent answers at /run/seamless/agent.sock on "),
    ],
)
def test_nobody_at_the_other_end(seamless: Seamless, client: str, path: str, said: str) -> None:
    done = seamless("--host", f"{client}{path}", "status")
    assert done.returncode == 3
    assert said in done.stderr
    assert "seamless agent status tells which" in done.stderr


def test_ssh_that_does_not_get_in(seamless: Seamless, sshd: SshServer, client: str, home: Path) -> None:
    done = seamless("--host", "ssh://127.0.0.1:1", "status")
    assert done.returncode == 3
    assert "ssh to 127.0.0.1: ssh: connect to host 127.0.0.1 port 1: Connection refused" in done.stderr
    program = home / "bin" / "ssh"
    allowed = program.read_text()
    program.write_text(allowed.replace(str(sshd.key), f"{sshd.key.with_name('stranger')} -o IdentitiesOnly=yes"))
    denied = seamless("--host", client, "status")
    assert denied.returncode == 3
    assert "Permission denied" in denied.stderr
    program.write_text(allowed.replace(str(sshd.known_hosts("host")), str(sshd.known_hosts("other_host"))))
    unknown = seamless("--host", client, "status")
    assert unknown.returncode == 3
    assert "Host key verification failed" in unknown.stderr
    assert "no program ssh" in seamless("--host", client, "status", PATH="/nowhere").stderr


def test_an_agent_of_another_version_is_told(seamless: Seamless, agent: FakeAgent, client: str) -> None:
    agent.api = "9"
    done = seamless("--host", f"{client}{agent.socket}", "status", SEAMLESS_SOCKET="")
    assert done.returncode == 3
    assert "speaks version 9 of the API" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["agent", "start"], ["agent", "stop"], ["agent", "install"], ["service", "add", "https://example.org/x"]],
)
def test_what_is_done_on_the_host_itself(seamless: Seamless, client: str, command: list[str]) -> None:
    done = seamless("--host", client, *command)
    assert done.returncode in (2, 5)
    assert "Type it there" in done.stderr or "Stop it where it runs" in done.stderr


def test_who_asks_is_the_user_over_there(client: str, sshd: SshServer, seamless: Seamless) -> None:
    """Another user than this one, when the tests are root's; whoever they are here."""
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    with tempfile.TemporaryDirectory(prefix="s") as folder, socket.socket(socket.AF_UNIX) as listener:
        os.chmod(folder, 0o755)
        listener.bind(f"{folder}/a.sock")
        os.chmod(f"{folder}/a.sock", stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
        listener.listen()
        uids: list[int] = []

        def answer() -> None:
            connection, _ = listener.accept()
            credential = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            uids.append(struct.unpack("3i", credential)[1])
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        seamless("--host", f"ssh://{user}@127.0.0.1:{sshd.port}{folder}/a.sock", "status")
        thread.join(30)
    assert uids == [pwd.getpwnam(user).pw_uid]


def test_ctrl_c_ends_the_command_and_ssh(agent: FakeAgent, client: str) -> None:
    agent.runs["payment-42"] = run("payment-42", state="in_progress")
    command = [sys.executable, "-m", "seamless", "--host", f"{client}{agent.socket}", "logs", "payment-42", "-f"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    deadline = time.monotonic() + 60
    while not agent.streams:
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    left = subprocess.run(["ps", "-s", str(process.pid), "-o", "args="], capture_output=True, text=True, check=False)
    assert left.stdout == ""
