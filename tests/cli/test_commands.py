from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from seamless import __version__
from seamless.cli.main import app

from .conftest import Seamless
from .fake_agent import Answer, FakeAgent, error, run, stage

pytestmark = pytest.mark.fake

FORBIDDEN = ("docker", "boto3", "botocore", "github", "pydantic", "fastapi", "textual", "aiosqlite", "uvicorn")


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def scripted(agent: FakeAgent, *stages: str, id: str = "payment-42") -> None:
    """A run that `seamless run payment` starts."""
    agent.runs[id] = run(id, stages=[stage(name) for name in stages])
    agent.answers["POST", "services/payment/runs"] = lambda: (201, agent.runs[id])


def succeed(agent: FakeAgent) -> None:
    agent.move("payment-42", "idle", name="create", at="14:02:10")
    agent.events[-1]["from_state"] = None
    agent.move("payment-42", "in_progress", at="14:02:11")
    agent.move("payment-42", "in_progress", stage="prepare", at="14:02:11", attempt=1)
    agent.move("payment-42", "success", stage="prepare", at="14:02:15.100")
    agent.move("payment-42", "skipped", stage="unit_test", at="14:02:15.100", reason="no command is set")
    agent.move("payment-42", "success", at="14:02:15.200")


# Exit codes, and what is said


def test_run_follows_to_success(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "prepare", "unit_test")
    thread = in_background(lambda: succeed(agent))
    done = seamless("run", "payment")
    thread.join()
    assert done.stdout == (
        "14:02:10 payment-42 queued\n"
        "14:02:11 payment-42 started\n"
        "14:02:11 payment-42 prepare started\n"
        "14:02:15 payment-42 prepare success 4.1s\n"
        "14:02:15 payment-42 unit_test skipped: no command is set\n"
        "14:02:15 payment-42 success 4.2s\n"
        "✔ payment-42 succeeded in 4.2 s\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_run_as_json_is_a_line_for_each_event_and_the_run_last(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "prepare", "unit_test")
    succeed(agent)
    done = seamless("run", "payment", "--json")
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert (last["id"], last["state"]) == ("payment-42", "success")
    assert done.returncode == 0


def test_run_that_fails_shows_the_end_of_the_log_and_what_next(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "unit_test")
    agent.write(
        "payment-42",
        "unit_test",
        b"".join(b"line %d\n" % n for n in range(9000)) + b"\x1b[31mboom\x1b[2J\x1b[0m\n",
    )
    agent.move("payment-42", "in_progress", stage="unit_test", at="14:02:11")
    agent.move("payment-42", "idle", stage="unit_test", name="retry", reason="exit code 1")
    agent.move("payment-42", "in_progress", stage="unit_test", at="14:02:12")
    agent.move("payment-42", "failure", stage="unit_test", at="14:02:14", reason="exit code 1")
    agent.move("payment-42", "failure", at="14:02:14", reason="unit_test: exit code 1")
    done = seamless("run", "payment")
    assert done.stdout.splitlines() == [
        "14:02:11 payment-42 unit_test started",
        "14:02:11 payment-42 unit_test to be tried again: exit code 1",
        "14:02:12 payment-42 unit_test started (attempt 2)",
        "14:02:14 payment-42 unit_test failure 2.0s: exit code 1",
        "14:02:14 payment-42 failure",
        "--- the last lines of unit_test",
        *[f"line {n}" for n in range(8981, 9000)],
        "boom",
        "---",
        "✘ payment-42 failed in unit_test after 2.0 s: exit code 1",
        "  seamless logs payment-42 unit_test      seamless shell payment-42"
        "      seamless rerun payment-42 --from unit_test",
    ]
    assert done.returncode == 1


def test_run_that_is_cancelled_or_stops_at_an_approval(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "prepare")
    agent.move("payment-42", "awaiting_approval", reason="staging runs 9f3c2ab")
    assert seamless("run", "payment").returncode == 4
    agent.move("payment-42", "cancelled", reason="superseded by payment-43")
    done = seamless("run", "payment")
    assert done.returncode == 1
    assert done.stdout.endswith("⊘ payment-42 was cancelled: superseded by payment-43\n")


def test_approve_follows_from_the_approval_on(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "deploy_production")
    agent.answers["GET", "runs"] = lambda: (200, [agent.runs["payment-42"]])
    agent.answers["POST", "runs/payment-42/approve"] = lambda: (200, agent.runs["payment-42"])
    agent.move("payment-42", "in_progress")
    agent.move("payment-42", "awaiting_approval")
    agent.move("payment-42", "in_progress", name="approve", reason="approved by ann")
    agent.move("payment-42", "success", at="14:02:20")
    done = seamless("approve")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "14:02:20 payment-42 success")


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


def test_interrupting_ends_with_130_and_the_run_goes_on(agent: FakeAgent) -> None:
    scripted(agent, "prepare")
    agent.move("payment-42", "in_progress", stage="prepare")
    command = [sys.executable, "-m", "seamless", "--socket", str(agent.socket), "run", "payment"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("prepare started\n")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "seamless: interrupted. The run goes on: seamless show payment-42\n"


def test_a_reader_that_leaves_is_no_error_to_talk_about(agent: FakeAgent) -> None:
    scripted(agent, "build")
    agent.move("payment-42", "in_progress", stage="build")
    agent.write("payment-42", "build", b"x" * 79 + b"\n" + b"y" * 10_000_000)
    agent.answers["GET", "status"] = (200, [])
    for arguments in ("logs payment-42 | head -1", "status | true"):  # in the midst, and when all is written
        command = f"{sys.executable} -m seamless --socket {agent.socket} {arguments}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "")


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


def test_logs(agent: FakeAgent, seamless: Seamless) -> None:
    scripted(agent, "prepare", "unit_test", "build")
    stored = b"one\r\n\x1b[31mtwo\x1b[0m\x1b]52;c;ZQ==\x07\n50%\r100%\nthr\xffee"
    for name in ("prepare", "unit_test"):
        agent.move("payment-42", "in_progress", stage=name)
        agent.write("payment-42", name, stored)
        agent.move("payment-42", "success", stage=name)
    lines = ["one", "two", "100%", "thr\ufffdee"]
    assert seamless("logs", "payment-42", "unit_test").stdout == "".join(f"{line}\n" for line in lines)
    assert seamless("logs", "payment-42").stdout.splitlines() == [
        *[f"prepare   │ {line}" for line in lines],
        *[f"unit_test │ {line}" for line in lines],
    ]
    parsed = [json.loads(line) for line in seamless("logs", "payment-42", "unit_test", "--json").stdout.splitlines()]
    assert parsed == [{"run": "payment-42", "stage": "unit_test", "line": line} for line in lines]
    assert seamless("logs", "payment-42", "deploy").stderr == (
        "seamless: payment-42 has no stage deploy. It has prepare, unit_test, build\n"
    )
    raw = subprocess.run(
        [sys.executable, "-m", "seamless", "--socket", str(agent.socket), "logs", "payment-42", "unit_test", "--raw"],
        capture_output=True,
    )
    assert (raw.returncode, raw.stdout) == (0, stored)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (stage("build", "skipped", reason="prepare failed"), "build of payment-42 did not run: prepare failed\n"),
        (stage("build"), "build of payment-42 has not started\n"),
        (
            stage("build", "success", detail={"kept_from": "payment-41"}),
            "build of payment-42 was kept. Its log: seamless logs payment-41 build\n",
        ),
    ],
)
def test_a_stage_without_a_log_is_said_to_have_none(
    agent: FakeAgent, seamless: Seamless, state: dict[str, Any], said: str
) -> None:
    agent.runs["payment-42"] = run(stages=[state])
    done = seamless("logs", "payment-42", "build")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"seamless: {said}")


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


def test_logs_that_are_followed_come_as_they_are_written_until_the_run_has_ended(
    agent: FakeAgent, seamless: Seamless
) -> None:
    scripted(agent, "unit_test", "build")

    def work() -> None:
        for name in ("unit_test", "build"):
            agent.move("payment-42", "in_progress", stage=name)
        for n in range(50):
            agent.write("payment-42", "unit_test", b"test %d\n" % n)
            agent.write("payment-42", "build", b"step %d\n" % n)
        time.sleep(0.3)
        for name in ("unit_test", "build"):
            agent.move("payment-42", "success", stage=name)
        agent.move("payment-42", "success")

    thread = in_background(work)
    done = seamless("logs", "payment-42", "-f")
    thread.join()
    assert done.returncode == 0
    for name, word in (("unit_test", "test"), ("build", "step")):
        found = [line for line in done.stdout.splitlines() if line.startswith(name)]
        assert found == [f"{name:<9} │ {word} {n}" for n in range(50)]


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


# Start-up


def test_help_and_version_load_next_to_nothing(home: Path) -> None:
    script = (
        "import sys; from seamless.cli.main import main; sys.argv = ['seamless', '--help']; main();"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("LOADED ")[2].split())
    assert "typer" in loaded
    assert not loaded & {*FORBIDDEN, "httpx", "rich", "websockets", "tomllib", "asyncio"}


def test_commands_load_nothing_of_the_agent(agent: FakeAgent) -> None:
    scripted(agent, "prepare")
    agent.answers["GET", "status"] = (200, [])
    script = (
        "import sys; from seamless.cli.main import main; main();"
        "print('LOADED', *sorted({'.'.join(name.split('.')[:2]) for name in sys.modules}))"
    )
    for arguments in (["status"], ["show", "payment-42"]):
        done = subprocess.run(
            [sys.executable, "-c", script, "--socket", str(agent.socket), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(done.stdout.partition("LOADED ")[2].split())
        ours = {f"seamless.{room}" for room in ("agent", "stages", "executors", "targets", "forges", "aws", "config")}
        assert loaded & {*FORBIDDEN, *ours} == set()
        assert "httpx" in loaded


def test_every_command_reads_like_a_page_of_a_manual() -> None:
    def commands(command: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
        yield " ".join(path), command
        for name, one in getattr(command, "commands", {}).items():
            yield from commands(one, [*path, name])

    found = dict(commands(typer.main.get_command(app), []))
    assert {"run", "runs", "show", "logs", "approve", "agent", "agent start", "service list", "notify"} <= set(found)
    for name, command in found.items():
        examples = command.help.partition("Example")[2]
        assert name in examples, name
        assert ("s:" in examples[:2]) == (len(re.findall(r"^  \S", examples, re.M)) > 1), name
        assert not name or not command.get_short_help_str().endswith("..."), name
        # What is laid out by hand stays on a terminal of 80 columns, with click's own margin.
        for block in command.help.split("\n\n"):
            assert not block.startswith("\b") or max(map(len, block.splitlines())) <= 78, (name, block)
        for parameter in command.params:
            shown = not getattr(parameter, "hidden", False)
            assert not shown or getattr(parameter, "help", None), f"{name} {parameter.name} says nothing of itself"


def test_version(seamless: Seamless) -> None:
    assert seamless("--version").stdout == f"seamless {__version__}\n"


def test_a_user_without_a_home_gets_an_answer_too(seamless: Seamless) -> None:
    assert seamless("status", HOME="/nonexistent").returncode == 3
