"""A run that is followed to its end, and the logs of its stages. The agent is a fake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from .conftest import Seamless
from .fake_agent import FakeAgent, run, stage
from .scripted_runs import in_background, scripted, succeed

pytestmark = pytest.mark.fake


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
