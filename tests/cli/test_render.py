from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from seamless.clock import age_in_words
from seamless.config import Build, EcsSettings, IntegrationTest, Limits, Parameters
from seamless.config.table import Table
from seamless.logtext import ASCII_GLYPHS, GLYPHS
from seamless.rendering import evidence
from seamless.rendering.folding import folded
from seamless.rendering.formats import age, duration, local_clock, local_time
from seamless.rendering.runs import Viewer, details, ending, header, quoted, ref_name, stage_rows
from seamless.rendering.tables import (
    DURATIONS,
    SIZES,
    images_table,
    parameters_table,
    runs_table,
    services_table,
    status_table,
)

from .fake_agent import run, stage

if TYPE_CHECKING:
    from seamless.wire import RunJSON

ANN = Viewer("ann", datetime(2026, 12, 3, 14, 2, 20, tzinfo=UTC), GLYPHS)
HOSTILE = "\x1b]52;c;ZWNobw==\x07\x1b[2Jab\u202ecd\x9b31m\ref\n[red]gh"


@pytest.fixture(autouse=True)
def utc(home: object) -> None:
    """Local times are UTC's."""


def shown(lines: Sequence[Text]) -> str:
    return "\n".join(line.plain for line in lines)


def commit(sha: str, subject: str, author: str, at: str = "2026-11-30T12:00:00+00:00") -> dict[str, Any]:
    return {"commit": sha + "0" * 33, "subject": subject, "author": author, "committed_at": at}


def at(clock: str) -> str:
    return f"2026-12-03T{clock}+00:00"


def peer(service: str, sha: str, source: str = "production") -> dict[str, str]:
    return {"service": service, "commit": sha, "digest": "sha256:1", "source": source}


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


def release(sha: str, deployed_at: str, state: str = "success") -> dict[str, Any]:
    return {
        "commit": sha,
        "digest": "sha256:1",
        "run": "x-1",
        "deployed_at": deployed_at,
        "address": None,
        "drift": None,
        "state": state,
    }


def service(name: str, **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("head", "staging", "production", "waiting", "last", "red_since", "hold", "problem"))
    return {"service": name, **blank, "running": [], **more}


def test_the_fleet() -> None:
    waiting = run(
        "inventory-19", "awaiting_approval", stages=[stage("deploy_staging", "success", ended_at=at("13:54:20"))]
    )
    running = run(
        "payment-43",
        "in_progress",
        stages=[stage("unit_test", "in_progress", started_at=at("14:02:16.100")), stage("build")],
    )
    red = {"since": at("09:00:00"), "run": "search-8", "stage": "code_quality", "reason": "exit code 1"}
    hold = {"why": "duplicate e-mails", "by": "bob", "since": at("09:00:00"), "commit": "0c35e04aaa"}
    fleet = [
        service("catalogue"),
        service(
            "gateway",
            last=run("gateway-1", "success"),
            head={"commit": "fc010d4aa", "seen_at": at("12:00:00")},
            staging=release("fc010d4aa", at("12:00:00")),
            production=release("fc010d4aa", "2026-12-02T12:00:00+00:00"),
        ),
        service("inventory", waiting=waiting),
        service("notification", hold=hold, production=release("0c35e04aa", at("14:02:10"), "unknown")),
        service("payment", running=[running, run("payment-44")]),
        service("search", red_since=red, problem="the repository cannot be reached"),
    ]
    assert shown(status_table(cast(Any, fleet), ANN)) == (
        "service       head     staging        production             now\n"
        "catalogue     -        -              -                      no runs yet\n"
        "gateway       fc010d4  fc010d4   2 h  fc010d4           1 d  ✔\n"
        "inventory     -        -              -                      ● waiting for approval  inventory-19  (8 m)\n"
        "notification  -        -              0c35e04 unknown  10 s  "
        "⏸ on hold since 0c35e04 was restored (bob)\n"
        "payment       -        -              -                      "
        "▶ payment-43 unit_test 3.9 s  ·  ▶ payment-44 queued\n"
        "search        -        -              -                      "
        "✘ red for 5 h: search-8 code_quality, exit code 1  ·  ? the repository cannot be reached"
    )


def test_lists() -> None:
    runs = [
        run(state="success", started_at=at("14:01:00"), ended_at=at("14:01:41"), subject="日本語" * 20),
        run("payment-41", "in_progress", started_at=at("14:02:00"), ref="refs/pull/17/head", subject=""),
    ]
    assert shown(runs_table(cast(Any, runs), ANN)) == (
        "run         state      trigger  ref   commit   age   took    by   subject\n"
        'payment-42  ✔ success  manual   main  9f3c2ab  10 s  41.0 s  you  "' + "日本語" * 8 + '…"\n'
        "payment-41  ▶ running  manual   #17   9f3c2ab  10 s  20 s    you"
    )
    image = {
        "service": "payment",
        "commit": "9f3c2abaa",
        "digest": "sha256:0123456789abcdef",
        "ref": "reg/payment@sha256:0123456789abcdef",
        "tag": "t",
        "built_at": at("13:00:00"),
        "run": "payment-42",
        "deployable": True,
        "environments": ["staging", "production"],
    }
    assert shown(images_table(cast(Any, [image]), ANN)) == (
        "commit   built    run         runs in              deployable  image\n"
        "9f3c2ab  1 h ago  payment-42  staging, production  yes         reg/payment@sha256:0123456789ab"
    )
    listed = {"name": "payment", "repo": "/srv/shop.git", "path": "payment", "branch": "main", "triggers": ["main"]}
    assert shown(services_table(cast(Any, [listed]))) == (
        "service  branch  triggers  repository\npayment  main    main      /srv/shop.git (payment)"
    )


def test_parameters_are_shown_as_one_writes_them() -> None:
    values = {
        "image": None,
        "install": "npm ci\nnpm run x",
        "caches": ["/a", "/b"],
        "files": {"/etc/pip.conf": "/srv/pip.conf"},
        "build": {"args": {}, "target": "", "context": "."},
        "secrets": {"TOKEN": {"env": "T", "expose": ["pr"]}},
        "environments": {"production": {"publish": 8080, "port": None, "limits": {"memory": 3 * 2**29}}},
        "stage_timeout": 5400.0,
    }
    sources = {
        "image": "default",
        "install": "service",
        "caches": "pipeline",
        'files."/etc/pip.conf"': "service",
        "build.args": "default",
        "build.target": "service",
        "build.context": "default",
        "secrets.TOKEN": "service",
        "environments.production.publish": "service",
        "environments.production.port": "default",
        "environments.production.limits.memory": "service",
        "stage_timeout": "pipeline",
    }
    assert shown(parameters_table(values, sources, ANN)) == (
        "parameter                              from      value\n"
        "image                                  default   -\n"
        "install                                service   'npm ci\\nnpm run x'\n"
        "caches                                 pipeline  [/a, /b]\n"
        'files."/etc/pip.conf"                  service   /srv/pip.conf\n'
        "build.target                           service   ''\n"
        "build.context                          default   .\n"
        "secrets.TOKEN                          service   { env = T, expose = [pr] }\n"
        "environments.production.publish        service   8080\n"
        "environments.production.limits.memory  service   1536m\n"
        "stage_timeout                          pipeline  90m"
    )


@pytest.mark.parametrize(("words", "known"), [("duration", DURATIONS), ("size", SIZES)])
def test_every_parameter_with_a_unit_is_known_as_such(words: str, known: frozenset[str]) -> None:
    tables: list[type[Table]] = [Parameters, Limits, EcsSettings, Build, IntegrationTest]
    found = {
        name
        for table in tables
        for name, field in table.model_fields.items()
        if f"Words(words='{words}')" in repr([field.annotation, field.metadata])
    }
    assert found == known


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


@given(st.text(), st.integers(1, 100), st.integers(0, 40))
def test_folding_loses_nothing_but_spaces(text: str, width: int, indent: int) -> None:
    line = Text(text)
    rows = folded(line, width, indent)
    assert "".join("".join(row.plain.split()) for row in rows) == "".join(line.plain.split())
    for row in rows:
        assert row.cell_len <= width or " " not in row.plain.strip()


def test_a_shell_is_offered_where_there_is_something_to_see_and_a_rerun_where_it_is_possible() -> None:
    def offered(failed: dict[str, Any], ref: str = "refs/heads/main") -> str:
        return shown(ending(cast("RunJSON", run(state="failure", ref=ref, stages=[failed])), ANN)).splitlines()[-1]

    assert "shell" in offered(stage("prepare", "failure", reason="exit code 1", exit_code=1))
    assert "shell" not in offered(stage("prepare", "failure", reason="conflicts in hello"))
    assert "shell" not in offered(stage("build", "failure", reason="exit code 1", exit_code=1))
    local = offered(stage("unit_test", "failure", reason="exit code 1", exit_code=1), ref="local")
    assert local.endswith("seamless run payment --local …")
    assert "rerun" not in local


def test_no_text_from_outside_drives_the_terminal() -> None:
    approval = {
        "run": "payment-42",
        "service": "payment",
        "lets_through": "production",
        "why": HOSTILE,
        "production": commit("7d01c9e", HOSTILE, HOSTILE),
        "commits": [commit("9f3c2ab", HOSTILE, HOSTILE)],
        "commits_known": True,
        "image": None,
        "tested_against": [peer(HOSTILE, "1e930b4", HOSTILE)],
        "staging": None,
        "task_definition": HOSTILE,
        "hold": {"why": HOSTILE, "by": HOSTILE, "since": at("10:00:00"), "commit": None},
        "expires_at": at("15:00:00"),
    }
    tests = {"tests": 1, "failed": 1, "failures": [{"name": HOSTILE, "message": HOSTILE}]}
    detail = {"note": HOSTILE, "address": HOSTILE, "tests": tests, "explanation": HOSTILE, "kept_from": HOSTILE}
    states = ("success", "failure", "cancelled", "awaiting_approval", "in_progress")
    for state in states:
        stages = [stage("unit_test", one, reason=HOSTILE, detail=detail) for one in ("success", "failure", "skipped")]
        outside = {"subject": HOSTILE, "requested_by": HOSTILE, "reason": HOSTILE, "cancel_requested": HOSTILE}
        hostile = cast(
            "RunJSON", run(state=state, stages=stages, approval=approval, ref=f"refs/heads/{HOSTILE}", **outside)
        )
        lines = [header(hostile, ANN), *details(hostile, ANN), *stage_rows(hostile, ANN), *ending(hostile, ANN)]
        lines += runs_table([hostile], ANN)
        for line in lines:
            assert not set(line.plain) & set("\x1b\x07\x9b\r\n\u202e"), line.plain
            assert not any(line.plain[span.start : span.end] == "gh" for span in line.spans), "taken for markup"


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["tests", "failed", "failures", "name", "message", "service", "commit"]), inner
            )
        ),
    )
)
def test_evidence_of_any_shape_is_read(value: Any) -> None:
    odd = cast(Any, stage("build", detail=dict.fromkeys(("note", "tests", "peers", "address", "explanation"), value)))
    assert all("\x1b" not in text for text in [*evidence.notes(odd), *evidence.explanation(odd)])
    evidence.failed_tests(value)


def test_times_and_ages_for_people() -> None:
    assert [duration(s) for s in (0.04, 4.1, 59.94, 59.96, 192, 3599.7, 7500)] == [
        "0.0 s",
        "4.1 s",
        "59.9 s",
        "1 m 0 s",
        "3 m 12 s",
        "1 h 0 m",
        "2 h 5 m",
    ]
    assert [age(s) for s in (0, 40.9, 60, 7199, 86399, 3 * 86400)] == ["0 s", "40 s", "1 m", "1 h", "23 h", "3 d"]
    assert [age_in_words(s) for s in (0, 1, 119, 172800)] == ["a moment", "1 second", "1 minute", "2 days"]
    assert local_clock(at("14:02:11")) == "14:02:11"
    assert local_time("2026-12-03T14:02:11.5+00:00") == "3 Dec 14:02"


def test_names_of_refs_and_long_subjects() -> None:
    assert [ref_name(ref) for ref in ("refs/heads/a/b", "refs/tags/v1", "refs/pull/17/head", "local", "9f3c")] == [
        "a/b",
        "v1",
        "#17",
        "local",
        "9f3c",
    ]
    assert quoted("x" * 50, 10) == '"' + "x" * 9 + '…"'
