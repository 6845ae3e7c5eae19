"""Findings: what makes a command fail, and their way over the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless import findings
from seamless.errors import UnavailableError
from seamless.findings import LEVELS, Finding

FINDINGS = st.builds(Finding, st.text(), st.sampled_from(LEVELS), st.text(), st.none() | st.text())


@given(FINDINGS)
def test_a_finding_is_the_same_after_the_wire(finding: Finding) -> None:
    told = findings.to_json(finding)
    assert set(told) == {"subject", "level", "what", "mend"}
    assert findings.from_json(told) == finding


def test_a_level_of_a_newer_version_is_nothing_that_this_one_can_judge() -> None:
    told = {"subject": "engine", "level": "catastrophe", "what": "burns", "mend": "run"}
    assert findings.from_json(told) == findings.not_checked("engine", "burns", "run")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], 0),
        ([findings.ok("engine", "26.1"), findings.warning("disk", "is 91% full", "seamless gc")], 0),
        ([findings.not_checked("aws", "is not configured")], 0),
        ([findings.ok("engine", "26.1"), findings.error("disk", "is full", "seamless gc")], 1),
    ],
)
def test_only_an_error_makes_a_command_fail(found: list[Finding], expected: int) -> None:
    assert findings.exit_code(found) == expected


def test_an_error_becomes_a_finding_with_its_hint_and_without_one_with_the_caller_s() -> None:
    with_hint = findings.failed("engine", UnavailableError("no engine answers", hint="start it"), mend="see the log")
    without = findings.failed("engine", UnavailableError("no engine answers"), mend="see the log")
    assert with_hint == findings.error("engine", "no engine answers", "start it")
    assert without == findings.error("engine", "no engine answers", "see the log")
