"""What comes from outside, times and names, as words that do no harm and lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from seamless.clock import age_in_words
from seamless.rendering import evidence
from seamless.rendering.folding import folded
from seamless.rendering.formats import age, duration, local_clock, local_time
from seamless.rendering.runs import details, ending, header, quoted, ref_name, stage_rows
from seamless.rendering.tables import runs_table

from .fake_agent import run, stage
from .rendered import ANN, at, commit, peer

if TYPE_CHECKING:
    from seamless.wire import RunJSON

pytestmark = pytest.mark.usefixtures("home")  # local times are UTC's

HOSTILE = "\x1b]52;c;ZWNobw==\x07\x1b[2Jab\u202ecd\x9b31m\ref\n[red]gh"


@given(st.text(), st.integers(1, 100), st.integers(0, 40))
def test_folding_loses_nothing_but_spaces(text: str, width: int, indent: int) -> None:
    line = Text(text)
    rows = folded(line, width, indent)
    assert "".join("".join(row.plain.split()) for row in rows) == "".join(line.plain.split())
    for row in rows:
        assert row.cell_len <= width or " " not in row.plain.strip()


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
