"""A run as text: what goes on, how it ended, what an approval lets through."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import pytest

from seamless.logtext import ASCII_GLYPHS
from seamless.rendering.runs import Viewer, details, ending, header, stage_rows
from seamless.rendering.tables import (
    runs_table,
    status_table,
)

from .fake_agent import run, stage
from .rendered import ANN, at, commit, peer, service, shown

if TYPE_CHECKING:
    from seamless.wire import RunJSON

pytestmark = pytest.mark.usefixtures("home")  # local times are UTC's


def in_progress() -> RunJSON:
    peers = {"peers": [peer("notification", "1e930b4aa"), peer("gateway", "fc010d4aa")]}
    stages = [
        stage(
            "prepare", "success", started_at=at("14:02:11"), ended_at=at("14:02:15.100"), detail={"note": "kept tree"}
        ),
        stage("code_quality", "skipped", reason="no command is set"),
        stage("unit_test", "in_progress", attempt=2, started_at=at("14:02:16.100"), usual_s=6.0),
        stage("build", "in_progress", attempt=1, started_at=at("14:02:16.100")),
        stage("integration_test", detail=peers),
        stage("deploy_staging"),
    ]
    return cast("RunJSON", run(state="in_progress", stages=stages, started_at=at("14:02:11")))


def test_a_run_that_goes_on() -> None:
    found = in_progress()
    assert shown(
        [
            header(found, dataclasses.replace(ANN, width=100), with_command=True),
            *details(found, ANN),
            *stage_rows(found, ANN),
            *ending(found, ANN),
        ]
    ) == (
        'payment-42  main  9f3c2ab  "Retry card declines"  by you                    seamless show payment-42\n'
        "  trigger manual · started 3 Dec 14:02 · for 9.0 s\n"
        "  ✔ prepare              4.1 s  kept tree\n"
        "  – code_quality                skipped: no command is set\n"
        "  ▶ unit_test            3.9 s  ━━━━━━━━━━━━━╸        usually 6.0 s  attempt 2\n"
        "  ▶ build                3.9 s  running\n"
        "  ○ integration_test            against notification@1e930b4, gateway@fc010d4 (production)\n"
        "  ○ deploy_staging"
    )


def test_glyphs_for_a_terminal_without_unicode() -> None:
    rows = shown(stage_rows(in_progress(), Viewer("ann", ANN.now, ASCII_GLYPHS)))
    assert [row.split()[0] for row in rows.splitlines()] == ["+", "-", ">", ">", ".", "."]


def test_an_approval_says_what_it_lets_through() -> None:
    approval = {
        "run": "payment-42",
        "service": "payment",
        "lets_through": "production",
        "why": "staging runs 9f3c2ab and is healthy",
        "production": commit("7d01c9e", "Old", "bob"),
        "commits": [commit("9f3c2ab", "Retry card declines", "ann"), commit("aaaaaaa", "Log the amount", "bob")],
        "commits_known": True,
        "image": {"digest": "sha256:4be1" + "0" * 57 + "97c"},
        "tested_against": [
            peer("payment", "9f3c2ab", "candidate"),
            peer("notification", "1e930b4"),
            peer("gateway", "fc010d4", "staging"),
            {"compose_service": "tests", "service": None, "commit": None, "digest": None, "source": "file"},
        ],
        "staging": None,
        "task_definition": "image only; cpu, memory, environment unchanged",
        "hold": None,
        "expires_at": "2026-12-13T14:02:00+00:00",
    }
    waiting = cast("RunJSON", run(state="awaiting_approval", approval=approval))
    assert shown(ending(waiting, ANN)) == (
        "● payment-42 is waiting for approval: staging runs 9f3c2ab and is healthy\n"
        '  production today  7d01c9e  "Old" (bob, 3 days old)\n'
        '  would become      9f3c2ab  2 commits: "Retry card declines" (you), "Log the amount" (bob)\n'
        "  image             sha256:4be1…97c\n"
        "  tested against    notification@1e930b4 (production), gateway@fc010d4 (staging)\n"
        "  task definition   image only; cpu, memory, environment unchanged\n"
        '  seamless approve payment      seamless reject payment --why "…"      expires 13 Dec 14:02'
    )


def test_an_approval_of_a_forks_commit_names_the_run_and_what_it_may_do() -> None:
    approval = {
        "run": "payment-42",
        "service": "payment",
        "lets_through": "checks",
        "why": "9f3c2ab comes from a fork",
        "production": None,
        "commits": [commit("9f3c2ab", "Retry card declines", "eve")],
        "commits_known": True,
        "image": None,
        "tested_against": [],
        "staging": None,
        "task_definition": None,
        "hold": None,
        "expires_at": "2026-12-13T14:02:00+00:00",
    }
    stages = [stage("prepare", state="idle"), stage("unit_test", state="idle")]
    waiting = run(state="awaiting_approval", ref="refs/pull/17/head", approval=approval, stages=stages)
    assert shown(ending(cast("RunJSON", waiting), ANN)) == (
        "● payment-42 is waiting for approval: 9f3c2ab comes from a fork\n"
        '  source            #17  1 commit: "Retry card declines" (eve)\n'
        "  would run         prepare, unit_test, without secrets and caches\n"
        '  seamless approve payment-42      seamless reject payment-42 --why "…"      expires 13 Dec 14:02'
    )


def test_an_approval_of_a_first_deployment_during_a_hold() -> None:
    approval: dict[str, Any] = {
        "run": "payment-42",
        "service": "payment",
        "lets_through": "production",
        "why": "payment is on hold",
        "production": None,
        "commits": [],
        "commits_known": False,
        "image": None,
        "tested_against": [],
        "staging": None,
        "task_definition": None,
        "hold": {"why": "duplicate e-mails", "by": "bob", "since": at("10:00:00"), "commit": None},
        "expires_at": "2026-12-13T14:02:00+00:00",
    }
    waiting = cast("RunJSON", run(state="awaiting_approval", approval=approval))
    assert shown(ending(waiting, ANN)) == (
        "● payment-42 is waiting for approval: payment is on hold\n"
        "  production today  nothing\n"
        '  would become      9f3c2ab  "Retry card declines" (Ann)\n'
        '  on hold           "duplicate e-mails" (bob)\n'
        '  seamless approve payment --release      seamless reject payment --why "…"      expires 13 Dec 14:02'
    )


def test_a_failure_says_what_where_why_and_what_next() -> None:
    tests = {
        "tests": 48,
        "failed": 7,
        "skipped": 0,
        "failures": [{"name": f"app.test.ts.test {n}", "message": "expected 3"} for n in range(7)],
    }
    stages = [
        stage("code_quality", "failure", reason="exit code 2", started_at=at("14:02:00"), ended_at=at("14:02:01")),
        stage(
            "unit_test",
            "failure",
            reason="exit code 1",
            started_at=at("14:02:00"),
            ended_at=at("14:02:06.200"),
            detail={"tests": tests},
        ),
        stage("build", "cancelled", reason="unit_test failed"),
    ]
    failed = cast("RunJSON", run("payment-43", state="failure", stages=stages))
    assert shown([*stage_rows(failed, ANN), *ending(failed, ANN)]) == (
        "  ✘ code_quality         1.0 s  failed: exit code 2\n"
        "  ✘ unit_test            6.2 s  failed: exit code 1 · 7 of 48 tests failed\n"
        "  ⊘ build                       cancelled: unit_test failed\n"
        "✘ payment-43 failed in code_quality after 1.0 s: exit code 2\n"
        "✘ payment-43 failed in unit_test after 6.2 s: exit code 1      (7 of 48 tests failed)\n"
        + "".join(f"  app.test.ts.test {n}\n      expected 3\n" for n in range(5))
        + "  and 2 more\n"
        "  seamless logs payment-43 code_quality      seamless shell payment-43"
        "      seamless rerun payment-43 --from code_quality"
    )


def test_a_failed_deployment_is_explained() -> None:
    detail = {"explanation": ["stopped task:", "  exit code 137, out of memory", 'last line: "loading…"']}
    stages = [stage("deploy_production", "failure", reason="rolled back to 7d01c9e", detail=detail)]
    failed = cast("RunJSON", run("payment-44", state="failure", stages=stages))
    assert shown(ending(failed, ANN)) == (
        "✘ payment-44 failed in deploy_production: rolled back to 7d01c9e\n"
        "  stopped task:\n"
        "    exit code 137, out of memory\n"
        '  last line: "loading…"\n'
        "  seamless logs payment-44 deploy_production      seamless rerun payment-44 --from deploy_production"
    )


def test_a_run_that_ended_otherwise() -> None:
    deployed = stage("deploy_production", "success", detail={"address": "http://127.0.0.1:3000"})
    asleep = stage("deploy_production", "success", detail={"unproven": "the service is scaled to 0"})
    times = {"started_at": at("14:00:00"), "ended_at": at("14:01:04")}
    unproven = cast("RunJSON", run(state="success", stages=[asleep], **times))
    succeeded = cast("RunJSON", run(state="success", stages=[deployed], **times))
    cancelled = cast("RunJSON", run(state="cancelled", reason="superseded by payment-43"))
    by_somebody = cast("RunJSON", run(state="cancelled", reason="cancelled by bob: wrong branch"))
    broken = cast("RunJSON", run(state="failure", reason="timed out after 2h"))
    assert shown(ending(succeeded, ANN)) == (
        "✔ payment-42 succeeded in 1 m 4 s: production runs 9f3c2ab at http://127.0.0.1:3000"
    )
    assert shown(ending(unproven, ANN)) == (
        "✔ payment-42 succeeded in 1 m 4 s: production has 9f3c2ab; the service is scaled to 0"
    )
    assert shown(ending(cancelled, ANN)) == "⊘ payment-42 was cancelled: superseded by payment-43"
    assert shown(ending(by_somebody, ANN)) == "⊘ payment-42 was cancelled by bob: wrong branch"
    assert shown(ending(broken, ANN)).startswith("✘ payment-42 failed: timed out after 2h")


def test_on_a_narrow_screen_lines_go_on_where_they_belong() -> None:
    narrow = dataclasses.replace(ANN, width=60)
    deployed = stage("deploy_production", "success", detail={"address": "http://127.0.0.1:3000"})
    times = {"started_at": at("14:00:00"), "ended_at": at("14:01:04")}
    succeeded = cast("RunJSON", run(state="success", stages=[deployed], **times))
    assert shown(ending(succeeded, narrow)) == (
        "✔ payment-42 succeeded in 1 m 4 s: production runs 9f3c2ab\n  at http://127.0.0.1:3000"
    )
    failed = cast("RunJSON", run(state="failure", stages=[stage("unit_test", "failure", reason="exit code 1")]))
    assert shown(ending(failed, narrow)).splitlines()[1:] == [
        "  seamless logs payment-42 unit_test",
        "  seamless shell payment-42",
        "  seamless rerun payment-42 --from unit_test",
    ]
    hold = {"why": "the bank's maintenance window", "by": "bob", "since": at("09:00:00"), "commit": None}
    fleet = [service("payment", hold=hold), service("search")]
    assert shown(status_table(cast(Any, fleet), dataclasses.replace(ANN, width=70))) == (
        "service  head  staging    production    now\n"
        "payment  -     -          -             ⏸ on hold: \"the bank's\n"
        '                                        maintenance window" (bob)\n'
        "search   -     -          -             no runs yet"
    )
    [_, line] = runs_table([cast("RunJSON", run(subject="One that is long enough to be cut here"))], narrow)
    assert line.cell_len == 60
    assert line.plain.endswith("…")


def test_a_shell_is_offered_where_there_is_something_to_see_and_a_rerun_where_it_is_possible() -> None:
    def offered(failed: dict[str, Any], ref: str = "refs/heads/main") -> str:
        return shown(ending(cast("RunJSON", run(state="failure", ref=ref, stages=[failed])), ANN)).splitlines()[-1]

    assert "shell" in offered(stage("prepare", "failure", reason="exit code 1", exit_code=1))
    assert "shell" not in offered(stage("prepare", "failure", reason="conflicts in hello"))
    assert "shell" not in offered(stage("build", "failure", reason="exit code 1", exit_code=1))
    local = offered(stage("unit_test", "failure", reason="exit code 1", exit_code=1), ref="local")
    assert local.endswith("seamless run payment --local …")
    assert "rerun" not in local
