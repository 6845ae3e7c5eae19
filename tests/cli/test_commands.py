"""What commands ask of an agent, print, and end with. The agent is a fake."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import cast

import pytest

from .conftest import Seamless
from .fake_agent import Answer, FakeAgent, error, run
from .scripted_runs import scripted

pytestmark = pytest.mark.fake


# Exit codes, and what is said


def test_approve_with_nothing_or_too_much_waiting(agent: FakeAgent, seamless: Seamless) -> None:
    agent.answers["GET", "runs"] = (200, [])
    nothing = seamless("approve")
    assert nothing.returncode == 5
    assert nothing.stderr == "seamless: nothing is waiting for approval. What there is: seamless status\n"
    agent.answers["GET", "runs"] = (200, [run(), run("search-8", subject="\x1b[2Jx")])
    several = seamless("approve")
    assert several.returncode == 2
    assert several.stderr == (
        "seamless: 2 runs are waiting for approval; name one:\n"
        "  seamless approve payment-42    Retry card declines\n"
        "  seamless approve search-8    x\n"
    )


def test_a_refusal_is_said_with_what_to_do(agent: FakeAgent, seamless: Seamless) -> None:
    said = "payment-42 is not waiting for approval: it was approved by you 3 minutes ago."
    agent.answers["POST", "runs/payment/approve"] = (409, error("refused", said, "seamless show payment-42", 5))
    done = seamless("approve", "payment")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"seamless: {said} seamless show payment-42\n"


@pytest.mark.parametrize(
    ("command", "path", "body", "said"),
    [
        ("reject payment --why no", "runs/payment/reject", {"why": "no"}, "is rejected"),
        ("cancel payment", "runs/payment/cancel", {"why": ""}, "is being cancelled"),
        ("rerun payment-4 --from build -d", "runs/payment-4/rerun", {"from_stage": "build"}, "payment-42\n"),
        (
            "promote payment --release -d",
            "services/payment/promote",
            {"release": True, "allow_rewritten": False},
            "payment-42\n",
        ),
        ("rollback --to 7d -d", "rollbacks", {"to": "7d", "environment": "production"}, "payment-42\n"),
        (
            "rollback payment --to 7d --env staging -d",
            "rollbacks",
            {"to": "7d", "service": "payment", "environment": "staging"},
            "payment-42\n",
        ),
        ("hold payment --why x", "services/payment/hold", {"why": "x"}, "payment is on hold"),
        ("release payment", "services/payment/release", {}, "not on hold any more"),
        (
            "run payment --ref -x --checks --detach",
            "services/payment/runs",
            {"ref": "-x", "checks": True, "staging": False, "rebuild": False},
            "payment-42\n",
        ),
    ],
)
def test_what_a_command_asks_of_the_agent(
    agent: FakeAgent, seamless: Seamless, command: str, path: str, body: object, said: str
) -> None:
    agent.answers["POST", path] = (200, run(state="in_progress"))
    done = seamless(*command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    assert [(m, p, json.loads(b)) for m, p, _, b in agent.requests] == [("POST", path, body)]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("frobnicate", "seamless: no such command 'frobnicate'. See: seamless --help\n"),
        ("run", "seamless: missing argument 'SERVICE'. See: seamless run --help\n"),
        ("reject payment", "seamless: missing option '--why'. See: seamless reject --help\n"),
        ("rollback --to 7d --env prod", "there is no environment 'prod'. --env takes staging or production\n"),
        ("run x --local . --ref main", "it takes no --ref, --pr, --staging or --rebuild\n"),
        ("run x --pr 17 --staging", "it takes no --ref, --checks, --staging or --rebuild\n"),
        (
            "runs --state bogus",
            "there is no state 'bogus'. One of idle, in_progress, awaiting_approval, success, failure",
        ),
        ("logs x --raw --json", "--raw writes bytes and --json lines: give one of them\n"),
        ("--config none.toml status", "no such file or directory. seamless --config none.toml init writes one\n"),
        ("agent start", "there is no configuration; searched:\n"),
    ],
)
def test_usage_and_configuration_end_with_2(seamless: Seamless, command: str, said: str) -> None:
    done = seamless(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_no_agent_ends_with_3_and_says_how_to_start_one(seamless: Seamless, home: Path) -> None:
    (home / "seamless.toml").write_text('[agent]\nsocket = "run/a.sock"\n')
    done = seamless("status")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"seamless: no agent answers at {home}/run/a.sock. Start one: seamless agent start\n"
    assert seamless("agent", "status", "--json").returncode == 3
    assert f"{home}/other.sock" in seamless("--socket", f"{home}/other.sock", "status").stderr
    (home / "seamless.toml").write_text("[agent\n")
    assert "seamless.toml: line 1" in seamless("status").stderr


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b'\xef\xbb\xbf[agent]\nsocket = "run/a.sock"\n', 3, "no agent answers at "),
        (b'[agent]\nsocket = "caf\xe9"\n', 2, "seamless.toml: line 2: is not UTF-8 text"),
        (None, 2, "seamless.toml: cannot be read: is a directory"),
    ],
)
def test_the_configuration_is_read_alike_by_those_who_need_only_its_socket(
    seamless: Seamless, home: Path, content: bytes | None, code: int, said: str
) -> None:
    file = home / "seamless.toml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    for command in (["status"], ["agent", "stop"]):
        done = seamless(*command)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    checked = seamless("check", "--offline")
    assert checked.returncode == int(code == 2)
    assert said.rpartition(": ")[2] in checked.stdout or code == 3


@pytest.mark.skipif(Path("/etc/seamless/config.toml").exists(), reason="this host has a configuration")
def test_doctor_looks_at_the_host_also_without_a_configuration(seamless: Seamless, home: Path) -> None:
    for content, said in ((None, "there is no configuration"), ("[agent\n", "seamless.toml: line 1")):
        if content is not None:
            (home / "seamless.toml").write_text(content)
        done = seamless("doctor", "--json")
        found = {one["subject"]: one for one in json.loads(done.stdout)}
        assert done.returncode == 1
        assert found["configuration"]["what"].startswith(said)
        assert found["configuration"]["mend"]
        assert {"git", "disk", "engine"} <= set(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_configuration_that_is_closed_is_told_like_any_other_fault(seamless: Seamless, home: Path) -> None:
    (home / "closed.toml").touch(0)
    assert "closed.toml: cannot be read: permission denied" in seamless("--config", "closed.toml", "status").stderr


def test_a_bug_is_one_line_and_a_file(agent: FakeAgent, seamless: Seamless, home: Path) -> None:
    agent.answers["GET", "status"] = (200, [{"unexpected": "\x1b[2J"}])
    done = seamless("status")
    assert done.returncode == 1
    assert done.stderr.startswith("seamless: this is a bug in Seamless: KeyError: ")
    [report] = (home / ".local/state/seamless").iterdir()
    assert str(report) in done.stderr
    assert "Traceback" in report.read_text()
    (home / ".local/state/seamless").chmod(0o700)
    unwritable = seamless("status", XDG_STATE_HOME="/proc/none")
    assert "could not be written" in unwritable.stderr


# Reading commands


def test_every_reading_command_has_json_as_the_agent_said_it(agent: FakeAgent, seamless: Seamless) -> None:
    found = run(subject="\x1b]0;x\x07 \u202e 日本")
    listed = [found]
    handshake = cast(Answer, agent.answers["GET", "version"])[1]
    agent.answers["GET", "version"] = (200, {**handshake, "trouble": ["/d has 0 MiB free"]})
    agent.answers["GET", "services/payment"] = (200, {"service": "payment", "parameters": {}, "sources": {}})
    agent.answers["GET", "runs/payment-42"] = (200, found)
    for path in ("status", "services", "runs", "images"):
        agent.answers["GET", path] = (200, listed)
    for arguments in ("status", "service list", "runs payment", "images payment"):
        done = seamless(*arguments.split(), "--json")
        told = "seamless: no new work is taken: /d has 0 MiB free\n" if arguments == "status" else ""
        assert done.stderr == told
        assert json.loads(done.stdout) == listed
        assert done.stdout.isascii()
        assert "\x1b" not in done.stdout
    assert json.loads(seamless("show", "payment-42", "--json").stdout) == found
    assert json.loads(seamless("service", "show", "payment", "--json").stdout)["service"] == "payment"
    assert json.loads(seamless("agent", "status", "--json").stdout)["pid"] == 7
    assert "agent 0.1.0 is ready (pid 7)" in seamless("agent", "status").stdout


def test_nothing_is_cut_in_a_pipe_and_there_are_no_codes(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "prepare")
    agent.runs["payment-42"]["stages"][0].update(state="failure", reason="x" * 500)
    agent.runs["payment-42"]["state"] = "failure"
    for arguments in (["show", "payment-42"], ["--no-color", "show", "payment-42"]):
        done = seamless(*arguments, COLUMNS="40")
        assert f"failed: {'x' * 500}\n" in done.stdout
        assert "\x1b" not in done.stdout


def test_output_that_cannot_be_encoded_is_no_error(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "prepare")
    agent.runs["payment-42"]["subject"] = "日本"
    done = seamless("show", "payment-42", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert '"??"' in done.stdout
    assert "  . prepare" in done.stdout


def test_a_configuration_that_is_not_in_force_is_told_once_by_every_command(
    agent: FakeAgent, seamless: Seamless
) -> None:
    agent.headers = {"Seamless-Config": "not in force"}
    agent.runs["payment-42"] = run("payment-42")
    agent.answers["GET", "status"] = (200, [])
    for command in ("status", "show payment-42", "logs payment-42"):
        done = seamless(*command.split())
        assert done.stderr == (
            "seamless: the configuration file has mistakes; what was in force before still is."
            " See: seamless agent status\n"
        )
        assert done.returncode == 0


def test_local_sends_the_working_tree(agent: FakeAgent, seamless: Seamless, home: Path) -> None:
    agent.answers["POST", "services/payment/local-runs"] = (201, run())
    (home / "repo").mkdir()
    git = ["git", "-C", str(home / "repo"), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert "has no commit yet" in seamless("run", "payment", "--local", "repo").stderr
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    (home / "repo/new").write_text("hello")
    assert seamless("run", "payment", "--local", "repo", "-d").stdout == "payment-42\n"
    _, _, query, body = agent.requests[-1]
    assert len(query["commit"]) == 40
    assert b"hello" in body
    assert seamless("run", "payment", "--local", "/").returncode == 2


def test_a_user_without_a_home_gets_an_answer_too(seamless: Seamless) -> None:
    assert seamless("status", HOME="/nonexistent").returncode == 3
