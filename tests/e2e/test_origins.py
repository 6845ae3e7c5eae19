"""From where people asked: a command on the host, and one through a real sshd."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from e2e.conftest import Shop
from forges.servers import SshServer

pytestmark = pytest.mark.engine


def test_the_audit_log_tells_the_host_from_a_laptop(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = shop.agent
    shop.start()
    assert agent.cli("hold", "web", "--why", "e-mails twice").returncode == 0
    with tempfile.TemporaryDirectory(prefix="s") as name:
        folder = Path(name)
        server = SshServer(folder)
        program = folder / "ssh"
        known = server.known_hosts("host")
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F none -i {server.key} -o UserKnownHostsFile={known} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        with server.serving():
            done = agent.cli("--host", f"{server.url}{agent.socket}", "release", "web")
            assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in agent.cli("events", "--json").stdout.splitlines()]
    origins = {one["name"]: one["origin"] for one in lines}
    assert origins["hold"].startswith("python"), "of `python -m seamless`"
    assert origins["release"].startswith("sshd[")
    shown = agent.cli("events").stdout.splitlines()
    assert shown[-1].endswith(f"release  web  ({origins['release']})"), shown
    assert agent.run("web")["number"] == 1
    assert json.loads(agent.cli("events", "--json", "--limit", "1").stdout)["name"] == "run", (
        "who asked for it is missing"
    )
