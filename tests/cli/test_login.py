"""`seamless login` and `seamless webhook`, against a scripted agent."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Seamless
from .fake_agent import FakeAgent, error

TOKEN = "ghp_s3cr3ts3cr3t"
FOUND = [
    {"subject": "token", "level": "ok", "what": "github.com takes it, as ada", "mend": None},
    {
        "subject": "services.payment",
        "level": "error",
        "what": "acme/payment: the token may not: Commit statuses: write",
        "mend": "give the token Commit statuses: write for acme/payment",
    },
]


def sent(agent: FakeAgent) -> object:
    return json.loads(agent.requests[-1][3])


def test_a_token_is_typed_without_being_shown(agent: FakeAgent, home: Path) -> None:
    agent.answers["POST", "github/token"] = (200, FOUND[:1])
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "seamless", "--socket", str(agent.socket), "login"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    while b"Token: " not in shown:  # its last space comes when nothing is shown any more
        shown += os.read(master, 1024)
    os.write(master, f"{TOKEN}\n".encode())
    try:
        while part := os.read(master, 1024):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(master)
    assert process.wait(timeout=60) == 0, shown
    assert sent(agent) == {"token": TOKEN, "store": True}
    assert TOKEN.encode() not in shown
    assert b"as ada" in shown


def test_a_token_from_elsewhere_and_what_it_may_not(agent: FakeAgent, seamless: Seamless, home: Path) -> None:
    agent.answers["POST", "github/token"] = (200, FOUND)
    (home / "token").write_text(f"{TOKEN}\n")
    for ways, variables in (
        (["--from-file", "token"], {}),
        (["--from-env", "MINE"], {"MINE": TOKEN}),
        (["--gh"], {"PATH": f"{home}:{os.environ['PATH']}"}),
    ):
        gh = home / "gh"
        gh.write_text(f'#!/bin/sh\ntest "$*" = "auth token" && echo {TOKEN}\n')
        gh.chmod(0o755)
        done = seamless("login", *ways, **variables)
        assert done.stdout == (
            "  ✔ token             github.com takes it, as ada\n"
            "  ✘ services.payment  acme/payment: the token may not: Commit statuses: write\n"
            "      give the token Commit statuses: write for acme/payment\n"
        )
        assert done.returncode == 1
        assert sent(agent) == {"token": TOKEN, "store": True}
        assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody is here to type a token"),
        (["--from-env", "NOT_SET"], "the variable NOT_SET is not set"),
        (["--from-file", "nothing"], "nothing cannot be read: no such file or directory"),
        (["--gh", "--device"], "name one way to log in"),
        (["--device", "--credential"], "--device stores what it gets with the agent"),
    ],
)
def test_what_is_no_way_to_log_in(agent: FakeAgent, seamless: Seamless, arguments: list[str], said: str) -> None:
    done = seamless("login", *arguments)
    assert done.stderr.startswith(f"seamless: {said}")
    assert done.returncode == 2
    assert agent.requests == []


def test_a_token_that_github_refuses(agent: FakeAgent, seamless: Seamless) -> None:
    agent.answers["POST", "github/token"] = (503, error("github", "github.com refuses the token", "make another"))
    done = seamless("login", "--from-env", "MINE", MINE=TOKEN)
    assert (done.stderr, done.returncode) == ("seamless: github.com refuses the token. Make another\n", 1)


def test_a_credential_is_written_by_root_only_and_not_kept_by_the_agent(agent: FakeAgent, seamless: Seamless) -> None:
    agent.answers["POST", "github/token"] = (200, FOUND[:1])
    done = seamless("login", "--from-env", "MINE", "--credential", MINE=TOKEN)
    assert sent(agent) == {"token": TOKEN, "store": False}
    assert "/etc/seamless/credentials/github-token cannot be written" in done.stderr
    assert ". sudo seamless agent install makes that folder" in done.stderr


def test_the_device_flow_asks_until_the_code_was_typed(agent: FakeAgent, seamless: Seamless) -> None:
    code = {"device_code": "d", "user_code": "AB-CD", "verification_uri": "https://x/device"}
    agent.answers["POST", "github/device"] = (200, {**code, "expires_in_s": 60.0, "interval_s": 0.01})
    answers = iter([None, None, FOUND[:1]])
    agent.answers["POST", "github/device/token"] = lambda: (200, next(answers))
    done = seamless("login", "--device")
    assert done.stderr == "Open https://x/device and type AB-CD\n"
    assert "as ada" in done.stdout
    assert sent(agent) == {"device_code": "d"}


def test_webhooks(agent: FakeAgent, seamless: Seamless) -> None:
    ping = {"subject": "ping", "level": "error", "what": "did not arrive: 502", "mend": "look at public_url"}
    agent.answers["POST", "services/payment/webhook"] = (200, FOUND[:1])
    agent.answers["POST", "services/payment/webhook/check"] = (200, [ping])
    agent.answers["DELETE", "services/payment/webhook"] = (200, FOUND[:1])
    assert seamless("webhook", "create", "payment").returncode == 0
    checked = seamless("webhook", "check", "payment", "--json")
    assert (json.loads(checked.stdout), checked.returncode) == ([ping], 1)
    assert seamless("webhook", "delete", "payment").returncode == 0
    assert [method for method, *_ in agent.requests if method != "GET"] == ["POST", "POST", "DELETE"]
