"""JUnit reports: what people see of them, and what a hostile one cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.stages.junit import MAX_FAILURES, MAX_REPORT_BYTES, FailedTest, read_reports, summarise

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.2">
<testcase classname="tests.test_a" name="test_ok" time="0.1"/>
<testcase classname="tests.test_a" name="test_bad" time="0.05"><failure message="assert 1 == 2&#10;more">
def test_bad():</failure></testcase>
<testcase classname="tests.test_a" name="test_err" time="1,000.05"><error>

E   fixture 'db' not found
second</error></testcase>
<testcase classname="tests.test_a" name="test_skip"><skipped message="no db"/></testcase>
</testsuite></testsuites>"""
SUITE_ONLY = b'<testsuite tests="99"><testcase name="lone"/><system-out>failure</system-out></testsuite>'
BOMB = b'<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>'
OUTSIDE = b'<!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&x;"/></testsuite>'


def test_counts_come_from_the_cases_and_failures_are_named_by_one_line() -> None:
    report = read_reports([PYTEST, SUITE_ONLY])
    assert (report.tests, report.passed, report.failed, report.skipped) == (5, 2, 2, 1)
    assert report.duration_s == 1000.2
    assert report.failures == (
        FailedTest("tests.test_a.test_bad", "assert 1 == 2"),
        FailedTest("tests.test_a.test_err", "E   fixture 'db' not found"),
    )


@pytest.mark.parametrize("report", [BOMB, OUTSIDE])
def test_a_document_type_is_refused(report: bytes) -> None:
    read = read_reports([report, SUITE_ONLY])
    assert read.tests == 1
    assert read.unreadable == ("report 1: it has a document type, which no test report needs",)


@pytest.mark.parametrize("report", [b"", b"<testsuite>", b"\xff\xfe\x00", b" " * (MAX_REPORT_BYTES + 1)])
def test_what_cannot_be_read_is_told(report: bytes) -> None:
    assert len(read_reports([report]).unreadable) == 1


def test_failures_are_bounded() -> None:
    many = b'<t><testcase name="n"><failure message="%s"/></testcase></t>' % (b"x" * 100_000)
    report = read_reports([many] * (MAX_FAILURES + 5))
    assert report.failed == MAX_FAILURES + 5
    assert len(report.failures) == MAX_FAILURES
    assert max(len(failure.message) for failure in report.failures) == 300


def test_the_evidence_is_json() -> None:
    assert summarise([SUITE_ONLY]) == {
        "tests": 1,
        "passed": 1,
        "failed": 0,
        "skipped": 0,
        "duration_s": 0.0,
        "failures": (),
        "unreadable": (),
    }


@given(st.binary(max_size=200) | st.text(alphabet='<>/="testcaseailurn &;', max_size=100).map(str.encode))
def test_nothing_makes_it_raise(content: bytes) -> None:
    report = read_reports([content])
    assert report.tests >= report.failed + report.skipped
