"""What JUnit XML reports say: how many tests ran, and which failed.

Reports come out of a container, so they are hostile: a document type (the way to entity bombs and to files of
the host) is refused, and their size and the list of failures are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from xml.parsers import expat

MAX_REPORT_BYTES: Final = 16 * 1024 * 1024
MAX_FAILURES: Final = 200
_MAX_NAME: Final = 300
_MAX_MESSAGE: Final = 300
_BAD: Final = ("failure", "error")


@dataclass(frozen=True, slots=True)
class FailedTest:
    """`name` is "<class>.<test>" as far as the report says; `message` is one line, possibly empty."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class TestReport:
    """The sum over all reports. `failures` holds the first 200; `unreadable` says why a report was left out."""

    __test__ = False  # not a test case of pytest's

    tests: int = 0
    failed: int = 0
    skipped: int = 0
    duration_s: float = 0.0
    failures: tuple[FailedTest, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def passed(self) -> int:
        return self.tests - self.failed - self.skipped


def summarise(reports: Iterable[bytes]) -> dict[str, Any]:
    """`read_reports` as JSON, for a stage's evidence: the report's fields and `passed`."""
    report = read_reports(reports)
    return {"passed": report.passed, **asdict(report)}


class _RefusedError(Exception):
    """The report may not be read; the message says why."""


@dataclass(slots=True)
class _Case:
    name: str
    seconds: float
    verdict: str | None = None  # "failure", "error" or "skipped"
    message: str = ""
    text: list[str] = field(default_factory=list)


def read_reports(reports: Iterable[bytes]) -> TestReport:
    """Adds up JUnit XML files given by content. Never raises: a report that cannot be read is named in `unreadable`.

    Counts are of `testcase` elements, not of the totals that a report claims about itself.
    """
    cases: list[_Case] = []
    unreadable: list[str] = []
    for position, content in enumerate(reports, start=1):
        try:
            cases += _read(content)
        except (_RefusedError, expat.ExpatError) as error:
            unreadable.append(f"report {position}: {error}")
    bad = [case for case in cases if case.verdict in _BAD]
    return TestReport(
        tests=len(cases),
        failed=len(bad),
        skipped=sum(case.verdict == "skipped" for case in cases),
        duration_s=round(sum(case.seconds for case in cases), 3),
        failures=tuple(FailedTest(case.name, _first_line(case.message or "".join(case.text))) for case in bad)[
            :MAX_FAILURES
        ],
        unreadable=tuple(unreadable),
    )


def _read(content: bytes) -> list[_Case]:
    if len(content) > MAX_REPORT_BYTES:
        raise _RefusedError(f"larger than {MAX_REPORT_BYTES // 1024**2} MiB")
    cases: list[_Case] = []
    current: _Case | None = None
    inside: str | None = None  # the verdict's element whose text is being read

    def start(element: str, attributes: dict[str, str]) -> None:
        nonlocal current, inside
        if element == "testcase":
            current = _Case(_name(attributes), _seconds(attributes.get("time", "")))
            cases.append(current)
        elif current is not None and element in (*_BAD, "skipped") and current.verdict not in _BAD:
            current.verdict, current.message = element, attributes.get("message", "")
            inside = element

    def end(element: str) -> None:
        nonlocal current, inside
        if element == inside:
            inside = None
        elif element == "testcase":
            current = None

    def text(data: str) -> None:
        if inside is not None and current is not None and len(current.text) < _MAX_MESSAGE:
            current.text.append(data[:_MAX_MESSAGE])

    def refuse(*_: object) -> None:
        raise _RefusedError("it has a document type, which no test report needs")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(content, True)
    return cases


def _name(attributes: dict[str, str]) -> str:
    parts = (attributes.get("classname", ""), attributes.get("name", ""))
    return ".".join(part for part in parts if part)[:_MAX_NAME] or "(unnamed)"


def _seconds(text: str) -> float:
    """Reports write 1.5, 1,234.5 or nothing sensible; no time is worth losing a verdict."""
    try:
        seconds = float(text.replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < 1e7 else 0.0


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:_MAX_MESSAGE]
