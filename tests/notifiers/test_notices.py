"""What there is to tell of an event, who wants it, and how SNS takes it."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.config import Notify
from seamless.model import (
    Approval,
    Event,
    NoticeKind,
    Run,
    RunOptions,
    Stage,
    StageName,
    Trigger,
    Trust,
)
from seamless.notifiers import Notice
from seamless.notifiers.notices import is_wanted, notice_of
from seamless.notifiers.sns import request
from seamless.transitions import RunState, StageState

AT = datetime(2026, 12, 3, 14, 2, 11, tzinfo=UTC)
TOPIC = "arn:aws:sns:eu-central-1:123456789012:releases"


def stage(name: StageName, state: StageState, reason: str | None = None, **detail: Any) -> Stage:
    return Stage("payment-43", name, state, 1, 0, reason, None, None, None, detail)


def run(state: RunState, *stages: Stage, **changes: Any) -> Run:
    one = Run(
        id="payment-43",
        service="payment",
        number=43,
        trigger=Trigger.MAIN,
        trust=Trust.TRUSTED,
        ref="refs/heads/main",
        commit="9f3c2ab" + "0" * 33,
        base=None,
        subject="Retry card\x1b[2J declines",
        author="Ann",
        state=state,
        reason=None,
        requested_by="poller",
        created_at=AT,
        started_at=AT,
        ended_at=None,
        parameters={},
        options=RunOptions(on_branch=True),
        rerun_of=None,
        stages=stages,
    )
    return dataclasses.replace(one, **changes)


def event(kind: str = "run", name: str = "x", to_state: str | None = None, **more: Any) -> Event:
    known = {"service": "payment", "run": "payment-43", "stage": None, "from_state": None, "reason": None}
    return Event(id=7, at=AT, kind=kind, name=name, to_state=to_state, actor="ann", **{**known, **more})


FAILED_TESTS = {"tests": 48, "failed": 2, "failures": [{"name": "declines are retried", "message": "expected 3"}]}
FAILED = run(
    RunState.FAILURE,
    stage(StageName.CODE_QUALITY, StageState.FAILURE, "exit code 2"),
    stage(StageName.UNIT_TEST, StageState.FAILURE, "exit code 1", tests=FAILED_TESTS),
)
COMMIT = 'main  9f3c2ab  "Retry card declines"  by Ann'


def told(event: Event, run: Run | None, *, was_red: bool = False) -> Notice:
    notice = notice_of(event, run, was_red=was_red)
    assert notice is not None
    return notice


def test_a_failure_says_first_what_failed_and_why_and_last_what_to_type() -> None:
    notice = told(event(to_state="failure", reason="code_quality failed"), FAILED)
    assert notice.kinds == (NoticeKind.FAILURE, NoticeKind.RUN)
    assert notice.with_tail(["npm ERR! 1", "npm ERR! 2"]).text == (
        "payment-43 failed in code_quality: exit code 2\n"
        "also in unit_test: exit code 1\n"
        f"{COMMIT}\n"
        "\n"
        "last lines of code_quality:\n"
        "    npm ERR! 1\n"
        "    npm ERR! 2\n"
        "\n"
        "    seamless show payment-43\n"
        "    seamless logs payment-43 code_quality\n"
    )
    assert notice.log == ("payment-43", "code_quality")


def test_evidence_of_a_failure_is_told() -> None:
    tests = told(event(to_state="failure"), run(RunState.FAILURE, FAILED.stages[1]))
    assert tests.lines[1:] == ("2 of 48 tests failed", "    declines are retried")
    explanation = ["stopped tasks: exit code 137", "out of memory"]
    deploy = stage(StageName.DEPLOY_PRODUCTION, StageState.FAILURE, "rolled back", explanation=explanation)
    notice = told(event(to_state="failure"), run(RunState.FAILURE, deploy))
    assert notice.lines[1:] == tuple(explanation)
    assert notice.attributes["stage"] == "deploy_production"


def test_an_approval_comes_with_the_commands_that_answer_it() -> None:
    approval = Approval("staging runs 9f3c2ab and is healthy", datetime(2026, 12, 13, 14, 2, tzinfo=UTC), None)
    waiting = run(RunState.AWAITING_APPROVAL, approval=approval)
    notice = told(event(to_state="awaiting_approval", reason=approval.why), waiting)
    assert notice.text == (
        "payment-43 is waiting for approval: staging runs 9f3c2ab and is healthy\n"
        f"{COMMIT}\n"
        "expires 2026-12-13 14:02 UTC\n"
        "\n"
        "    seamless show payment-43\n"
        "    seamless approve payment-43\n"
        '    seamless reject payment-43 --why "…"\n'
    )


def test_recovery_is_told_only_of_what_was_red() -> None:
    well = event(to_state="success")
    assert told(well, run(RunState.SUCCESS), was_red=True).kinds == (NoticeKind.RECOVERY, NoticeKind.RUN)
    assert told(well, run(RunState.SUCCESS)).kinds == (NoticeKind.RUN,)


@pytest.mark.parametrize(
    ("event", "run", "kinds", "title"),
    [
        (event(name="start", to_state="in_progress"), run(RunState.IN_PROGRESS), ["run"], "payment-43 started"),
        (
            event(to_state="cancelled", reason="superseded by payment-44"),
            run(RunState.CANCELLED),
            ["run"],
            "payment-43 was cancelled: superseded by payment-44",
        ),
        (
            event(to_state="failure", reason="no image"),
            run(RunState.FAILURE),
            ["failure", "run"],
            "payment-43 failed: no image",
        ),
        (
            event("stage", to_state="skipped", stage="unit_test", reason="no unit_test command is set"),
            run(RunState.IN_PROGRESS),
            ["stage"],
            "payment-43: unit_test skipped: no unit_test command is set",
        ),
        (
            event("deployment", to_state="success", data={"environment": "production", "commit": "7d01c9e0000"}),
            run(RunState.IN_PROGRESS, requested_by="dana"),
            ["deployment"],
            "payment: production runs 7d01c9e (payment-43, by dana)",
        ),
        (
            event("deployment", to_state="success", data={"environment": "staging", "commit": "7d01c9e0000"}),
            run(RunState.IN_PROGRESS, trigger=Trigger.ROLLBACK, requested_by="dana"),
            ["deployment"],
            "payment: staging was rolled back to 7d01c9e (payment-43, by dana)",
        ),
        (
            event("action", "hold", run=None, reason="duplicate e-mails"),
            None,
            ["hold"],
            "payment is on hold: duplicate e-mails (by ann)",
        ),
        (event("action", "release", run=None), None, ["hold"], "payment is not on hold any more"),
        (
            event("service", "pause", run=None, reason="github.com refuses the token"),
            None,
            ["pause"],
            "payment is paused: github.com refuses the token",
        ),
    ],
)
def test_what_else_is_told(event: Event, run: Run | None, kinds: list[str], title: str) -> None:
    notice = told(event, run)
    assert ([str(kind) for kind in notice.kinds], notice.title) == (kinds, title)
    assert notice.attributes["event"] == kinds[0]
    assert notice.attributes["service"] == "payment"


@pytest.mark.parametrize(
    "event",
    [
        event(name="create", to_state="idle"),
        event("stage", to_state="in_progress", stage="build"),
        event("deployment", to_state="rolled_back", data={"environment": "staging", "commit": "1"}),
        event("action", "approve"),
        event("config", "reload", run=None, service=None),
        event("message", "give_up", run=None),
        event("service", "skip", run=None, reason="it comes from a fork"),
    ],
)
def test_what_nobody_needs_to_be_told(event: Event) -> None:
    assert notice_of(event, run(RunState.IN_PROGRESS), was_red=False) is None


def test_who_wants_what() -> None:
    failure = told(event(to_state="failure"), FAILED)
    stranger = dataclasses.replace(failure, trusted=False)
    fork = dataclasses.replace(stranger, kinds=(NoticeKind.APPROVAL, NoticeKind.RUN))
    usual = Notify(sns=TOPIC)
    assert is_wanted(failure, usual)
    assert is_wanted(failure, Notify(sns=TOPIC, events=[NoticeKind.RUN]))
    assert not is_wanted(failure, Notify(sns=TOPIC, events=[NoticeKind.STAGE]))
    assert is_wanted(failure, Notify(sns=TOPIC, services=["gateway", "payment"]))
    assert not is_wanted(failure, Notify(sns=TOPIC, services=["gateway"]))
    assert not is_wanted(stranger, usual)
    assert is_wanted(stranger, Notify(sns=TOPIC, pull_requests=True))
    assert is_wanted(fork, usual), "a fork's commit waits for somebody's word"


def test_a_notice_comes_back_from_the_outbox() -> None:
    for one in (told(event(to_state="failure"), FAILED), told(event("action", "release", run=None), None)):
        assert Notice.from_json(json.loads(json.dumps(one.to_json()))) == one


# -- SNS

printable = st.text(st.characters(codec="utf-8"), max_size=400)


@given(title=printable, value=printable)
def test_sns_takes_whatever_there_is_to_tell(title: str, value: str) -> None:
    notice = Notice("7", AT.isoformat(), (NoticeKind.RUN,), title, attributes={"reason": value})
    parameters = request(TOPIC, notice)
    subject = parameters["Subject"]
    assert 0 < len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    assert not subject[0].isspace()
    assert parameters["Message"].strip() or not title.strip()
    assert all(one["StringValue"] for one in parameters["MessageAttributes"].values())


def test_a_message_that_is_too_long_for_sns_is_cut_between_characters() -> None:
    notice = Notice("7", AT.isoformat(), (NoticeKind.RUN,), "x", lines=("é" * 200_000,))
    message = request(TOPIC, notice)["Message"]
    assert len(message.encode()) <= 200 * 1024
    assert message.endswith("é\n… (cut)\n")


def test_a_queue_of_a_topic_keeps_each_services_order_and_drops_what_is_sent_twice() -> None:
    notice = told(event(to_state="failure"), FAILED)
    parameters = request(f"{TOPIC}.fifo", notice)
    assert (parameters["MessageGroupId"], parameters["MessageDeduplicationId"]) == ("payment", "7")
    assert "MessageGroupId" not in request(TOPIC, notice)
