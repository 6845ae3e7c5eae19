"""What docs/github.md tells a new user to type, typed as it stands there. GitHub is a program of its own on loopback.

Different from the reader: where GitHub is, how often it is polled, and the token is typed by a program.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from e2e.conftest import DOCKERFILE
from harness.engine import remove_everything

pytestmark = [pytest.mark.engine, pytest.mark.fake, pytest.mark.exhaustive]

ROOT = Path(__file__).parents[2]
TOKEN = "ghp_aN3wUs3rsT0k3n"


class Newcomer:
    """Somebody with a home folder, git, a clone of acme/payment and the tools of this checkout."""

    def __init__(self, home: Path, github: str) -> None:
        self.home = home
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(home / "run"),
            "SEAMLESS_CONFIG": str(home / "config.toml"),  # a test that root runs must not write to /etc
        }
        (home / "run").mkdir(parents=True)
        (home / ".git-credentials").write_text(github.replace("://", f"://me:{TOKEN}@") + "\n")
        (home / ".gitconfig").write_text(
            "[user]\nname = Ada\nemail = ada@acme.example\n[credential]\nhelper = store\n[init]\ndefaultBranch = main\n"
        )

    def types(self, line: str) -> str:
        """Runs a command line to its end, and insists that it is content."""
        done = subprocess.run(
            shlex.split(line),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def types_secret(self, line: str, prompt: bytes, secret: str) -> str:
        """As `types`, at a terminal that asks for something."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            shlex.split(line),
            cwd=self.home,
            env=self.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        shown = b""
        while prompt not in shown:
            shown += os.read(master, 1024)
        os.write(master, f"{secret}\n".encode())
        try:
            while part := os.read(master, 1024):
                shown += part
        except OSError:  # the other end is closed
            pass
        os.close(master)
        assert process.wait(timeout=60) == 0, shown
        return shown.decode()


@pytest.fixture
def github(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where it is. It must have seen nothing that GitHub's description does not allow."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.github", str(tmp_path / "github"), "acme/payment", "--token", TOKEN],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()


def commands() -> list[str]:
    """The commands of the first section, without their comments."""
    text = (ROOT / "docs" / "github.md").read_text(encoding="utf-8")
    section = text.partition("## From nothing to a first automatic run")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return [line.partition("  #")[0].strip() for line in block[1].splitlines()]


def until(found: Callable[[], str], wanted: str) -> str:
    deadline = time.monotonic() + 60
    while wanted not in (said := found()):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    return said


def test_from_nothing_to_a_first_automatic_run(tmp_path: Path, github: dict[str, str], busybox_image: str) -> None:
    typed = commands()
    assert len(typed) < 10
    user = Newcomer(tmp_path / "home", github["url"])
    payment = user.home / "payment"
    user.types(f"git clone --quiet {github['url']}/acme/payment")
    (payment / "Dockerfile").write_text(DOCKERFILE.format(image=busybox_image))
    for line in ("add .", "commit --quiet --message=first", "push --quiet --set-upstream origin main"):
        user.types(f"git -C payment {line}")

    install, init, *more, show = typed
    assert install == "pipx install seamless-ci"  # tests/test_packaging.py installs it
    user.types(f"{init} --yes")
    config = user.home / "config.toml"
    written = config.read_text()
    assert written.count('# poll_interval = "60s"') == 1
    often = written.replace('# poll_interval = "60s"', 'poll_interval = "1s"')
    config.write_text(f'{often}\n[github]\napi_url = "{github["api_url"]}"\n')
    try:
        for line in more:
            if line == "seamless login":
                shown = user.types_secret(line, b"Token: ", TOKEN)
                assert "acme/payment: Contents: read, Commit statuses: write, Pull requests: read" in shown
                until(lambda: user.types("seamless status --json"), '"commit":')
                (payment / "hello").write_text("hello\n")
                user.types("git -C payment add .")
                user.types("git -C payment commit --quiet --message=second")
            else:
                user.types(line.replace("https://github.com", github["url"]))
        head = user.types("git -C payment rev-parse HEAD").strip()
        until(lambda: user.types("seamless runs payment"), "payment-1")
        shown = until(lambda: user.types(show), "waiting for approval")
        assert f'main  {head[:7]}  "second"  by poller' in shown
        statuses = f"{github['api_url']}/repos/acme/payment/commits/{head}/statuses"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        until(
            lambda: httpx.get(statuses, headers=headers, trust_env=False, timeout=60).text,
            "payment-1: waits for approval",
        )
    finally:
        stopped = subprocess.run(["seamless", "agent", "stop"], env=user.environment, capture_output=True, check=False)
        installation = user.home / ".local/share/seamless/installation"
        if installation.exists():
            remove_everything(installation.read_text().strip())
    assert stopped.returncode == 0, stopped.stderr
