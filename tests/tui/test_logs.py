"""The log view's inside: lines in both directions, the page over them, and what of a line reaches the terminal."""

from __future__ import annotations

import asyncio
import errno
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.fake_agent import search
from seamless.errors import AgentUnreachableError, SeamlessError, UsageError
from seamless.loglines import BLOCK
from seamless.tui.chart import critical_path, spans
from seamless.tui.loglines import Rows, plain_line, text_of, where
from seamless.tui.logmatches import Matching
from seamless.tui.logpage import Page
from seamless.tui.logsearch import ERRORS, Search, Searcher
from seamless.tui.logsource import Line, Lines
from seamless.tui.logturns import Turns
from seamless.tui.run import time_of_day
from seamless.tui.saving import place, save

from .screens import HOSTILE, NOW, at, failed_run, passed

if TYPE_CHECKING:
    from seamless.client import Client

T = TypeVar("T")


class Stored:
    """A log that answers as the agent does; counts what was fetched."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fetched = 0
        self.at_once = 1 << 30  # bytes that one answer to a search comes from

    def log(self, run: str, stage: str, *, offset: int, limit: int) -> list[bytes]:
        part = self.data[offset : offset + limit]
        self.fetched += len(part)
        return [part]

    def search_log(self, run: str, stage: str, pattern: str, **options: Any) -> Any:
        return search(
            self.data,
            pattern,
            options["offset"],
            backwards=options["backwards"],
            limit=options["limit"],
            at_once=self.at_once,
        )

    async def ask(self, question: Callable[[Client], T]) -> T:
        return question(cast("Client", self))


def page_over(data: bytes, height: int = 10) -> tuple[Page, Stored]:
    stored = Stored(data)
    lines = Lines(stored.ask, "payment-1", "build")
    lines.grow(len(data))
    page = Page(lines, Rows())
    page.height = height
    return page, stored


def seen(page: Page) -> list[bytes]:
    return [line.data for line in page.in_sight()]


LOGS = st.lists(st.sampled_from([b"", b"x", b"line", b"w" * 200, b"z" * (BLOCK + 7), b"y" * (2 * BLOCK)]), max_size=12)


@given(LOGS, st.booleans(), st.integers(1, 7))
def test_lines_are_the_same_from_either_end(parts: list[bytes], ended: bool, count: int) -> None:
    data = b"\n".join(parts) + (b"\n" if ended and parts else b"")

    async def main() -> None:
        page, _ = page_over(data)
        forward, start = [], 0
        while found := await page.lines.forward(start, count):
            forward += found
            start = found[-1].next
        backward: list[Any] = []
        before = len(data)
        while found := await page.lines.backward(before, count):
            backward = found + backward
            before = found[0].offset
        assert forward == backward
        assert [line.next for line in forward[:-1]] == [line.offset for line in forward[1:]]
        assert b"".join(data[line.offset : line.next] for line in forward) == data
        for line in forward:
            assert line.data == data[line.offset : line.next].removesuffix(b"\n")
            assert await page.lines.start_of(line.offset) == line.offset
            assert await page.lines.start_of(line.next - 1) == line.offset

    asyncio.run(main())


@given(st.lists(st.sampled_from([b"an x", b"a y", b""]), max_size=60), st.integers(1, 40), st.data())
def test_lines_that_match_are_the_same_however_they_are_come_to(
    parts: list[bytes], at_once: int, data: st.DataObject
) -> None:
    log = b"".join(part + b"\n" for part in parts)

    async def main() -> None:
        first = data.draw(st.sampled_from([0, *(n + 1 for n, char in enumerate(log) if char == 10)]))
        stored = Stored(log[:first])
        stored.at_once = at_once
        lines = Lines(stored.ask, "payment-1", "build")
        lines.grow(first)
        searcher = Searcher(stored.ask, "payment-1", "build", lambda: False, lambda: None)
        matching = Matching(searcher, Search("x"), lines)
        for grown in (first, len(log)):
            stored.data = log[:grown]
            lines.grow(grown)
            wanted = [line.offset for line in await lines.forward(0, 100) if b"x" in line.data]
            for _ in range(data.draw(st.integers(0, 4))):
                at, count = data.draw(st.integers(0, grown)), data.draw(st.integers(1, 5))
                found = await matching.forward(at, count)
                assert [line.offset for line in found] == [offset for offset in wanted if offset >= at][:count]
                found = await matching.backward(at, count)
                assert [line.offset for line in found] == [offset for offset in wanted if offset < at][-count:]
            await matching.catch_up()
            while not matching.is_complete:
                await matching.look_back()
            assert [line.offset for line in matching.last(100)] == wanted
            assert all(matching.is_last(line) == (line.offset == wanted[-1]) for line in matching.last(100))

    asyncio.run(main())


def test_a_page_moves_over_a_log_without_reading_it() -> None:
    data = b"".join(b"line %06d of a log that is long\n" % number for number in range(200_000))

    async def main() -> None:
        page, stored = page_over(data)
        await page.show_end()
        assert seen(page)[-1].startswith(b"line 199999")
        assert len(seen(page)) == 10
        assert page.is_at_end
        await page.go_to(0)
        assert seen(page)[0].startswith(b"line 000000")
        await page.scroll(25)
        assert seen(page)[0].startswith(b"line 000025")
        await page.scroll(-5)
        assert seen(page)[0].startswith(b"line 000020")
        await page.scroll(-500)
        assert page.place == (0, 0)
        middle = data.index(b"line 100000")
        await page.go_to(middle)
        assert page.mark == middle
        assert seen(page)[page.marked_number].startswith(b"line 100000")
        assert stored.fetched < len(data) / 2 + 40 * BLOCK

    asyncio.run(main())


def test_wrapped_lines_are_scrolled_by_rows() -> None:
    async def main() -> None:
        page, _ = page_over(b"a" * 95 + b"\nb\n" + b"c" * 55 + b"\n", height=4)
        page.rows.width = 10
        await page.go_to(0)
        assert page.place == (0, 0)
        await page.scroll(3)
        assert page.place == (0, 3)
        await page.scroll(8)
        assert page.place == (98, 0) or page.is_at_end
        await page.show_end()
        assert page.place == (98, 2)
        await page.scroll(-3)
        assert page.place == (96, 0)

    asyncio.run(main())


@given(st.lists(st.sampled_from(["a", "日", "\x1b[31m", "\x1b[0m", "\t", "é"]), min_size=1), st.integers(2, 9))
def test_wrapped_rows_have_all_of_a_line_and_are_not_wider(parts: list[str], width: int) -> None:
    rows = Rows()
    line = Line(0, 1, "".join(parts).encode())
    whole = "".join(strip.text for strip in rows.of(line))
    rows.width = width
    rows.forget()
    assert "".join(strip.text for strip in rows.of(line)) == whole
    assert all(strip.cell_length <= width for strip in rows.of(line))


def test_a_growing_log_is_read_on() -> None:
    async def main() -> None:
        page, stored = page_over(b"one\ntw")
        await page.show_end()
        assert seen(page) == [b"one", b"tw"]
        stored.data = b"one\ntwo\nthree\n"
        page.lines.grow(len(stored.data))
        await page.show_end()
        assert seen(page) == [b"one", b"two", b"three"]

    asyncio.run(main())


def test_a_turn_that_is_never_taken_leaves_nothing_that_python_would_warn_of() -> None:
    """At the program's end Textual starts no task any more."""
    asked: list[object] = []

    async def main() -> None:
        Turns(asked.append, lambda wrong: None).take(lambda: asyncio.sleep(0))

    asyncio.run(main())
    assert len(asked) == 1
    assert not inspect.iscoroutine(asked[0])


def test_nothing_of_a_hostile_line_reaches_the_terminal() -> None:
    text = text_of(HOSTILE.rstrip(b"\n"))
    assert text.plain == "red over reset \ufffd31m end"
    assert [str(span.style) for span in text.spans if text.plain[span.start : span.end] == "red"] == ["color(1)"]
    assert plain_line(b"a\x1b[31mb\tc") == "ab\tc"


def test_what_is_searched_for_is_marked() -> None:
    search = Search("Über")
    assert not search.ignore_case
    text = text_of("x Über y Über".encode(), search.expression)
    assert [text.plain[span.start : span.end] for span in text.spans] == ["Über", "Über"]


@pytest.mark.parametrize(
    ("line", "is_error"),
    [
        ("ERROR in a.ts", True),
        ("npm ERR! x: Cannot find module", True),
        ("  ✘ declines are retried", True),
        ("Traceback (most recent call last):", True),
        ("0 errors", False),
        ("terror is no word of ours", False),
        ("all 12 tests passed", False),
    ],
)
def test_what_an_error_is_taken_to_be(line: str, is_error: bool) -> None:
    assert (Search(ERRORS).expression.search(line.encode()) is not None) is is_error


def test_where_one_is() -> None:
    position: Any = {"line": 1234, "offset": 10, "at": "2026-12-03T14:02:11Z"}
    assert where(position, 50, 98_200_000, 16).startswith("column 17  line 1,234  ")
    assert where(None, 50, 100, 0) == "50 % of 100 B"


def test_a_log_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    class Breaking:
        broken: Exception

        def log(self, run: str, stage: str) -> Iterator[bytes]:
            yield b"the first part\n"
            raise self.broken

    agent = Breaking()
    path = tmp_path / "x.log"
    for agent.broken, told in (
        (OSError(errno.ENOSPC, "No space left on device"), "x.log cannot be written: No space left on device"),
        (AgentUnreachableError("nobody answers"), "nobody answers"),
    ):
        with pytest.raises(SeamlessError, match=told):
            save(cast("Client", agent), "payment-1", "build", path)
        assert not path.exists()
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"there is .*x.log already"):
        save(cast("Client", agent), "payment-1", "build", path)
    assert path.read_text() == "mine"
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        save(cast("Client", agent), "payment-1", "build", path / "y.log")


def test_where_a_log_is_saved_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert place("x.log", "payment-1.log") == place("~/x.log", "payment-1.log") == tmp_path / "x.log"
    assert place("~", "payment-1.log") == tmp_path / "payment-1.log"
    with pytest.raises(UsageError, match="there is no ~nobody-at-all"):
        place("~nobody-at-all/x.log", "payment-1.log")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("23:50", "12-03T23:50:00"),  # the minute in which it began
        ("00:05:10", "12-04T00:05:10"),  # in it, after midnight
        ("23:40", "12-03T23:40:00"),  # before it: its beginning
        ("00:20", "12-04T00:20:00"),  # after it: its end
        ("13:00", "12-03T13:00:00"),  # nearer to the beginning than to the end
        ("11:00", "12-04T11:00:00"),  # the other way round
    ],
)
def test_a_time_of_day_is_the_one_in_the_log_or_nearest_to_it(home: object, text: str, found: str) -> None:
    began, until = datetime(2026, 12, 3, 23, 50, 30, tzinfo=UTC), datetime(2026, 12, 4, 0, 10, tzinfo=UTC)
    assert datetime.fromisoformat(time_of_day(text, began, until)).astimezone(UTC).isoformat() == f"2026-{found}+00:00"


@pytest.mark.parametrize("text", ["", "25:00", "12", "a:b", "1:2:3:4"])
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        time_of_day(text, NOW, NOW)


def test_the_critical_path_goes_back_over_what_was_waited_for() -> None:
    stages: Any = [
        passed("prepare", "14:00:00", "14:00:04"),
        passed("code_quality", "14:00:04", "14:00:06"),
        passed("unit_test", "14:00:04", "14:00:20"),
        passed("build", "14:00:04", "14:00:10"),
        passed("integration_test", "14:00:20", "14:00:30"),
        passed("deploy_production", "14:05:30", "14:05:40"),
    ]
    assert critical_path(stages, NOW) == {"prepare", "unit_test", "integration_test", "deploy_production"}
    assert critical_path(cast("Any", failed_run()["stages"]), NOW) == {"prepare", "unit_test"}
    assert not critical_path([], NOW)
    times = spans(stages, NOW)
    assert list(times["integration_test"]) == [20, 30]
    assert list(times["deploy_production"]) == [30, 40]  # the five minutes of waiting are no work
    running: Any = [{**passed("prepare", "14:00:00", "14:00:04"), "ended_at": None, "state": "in_progress"}]
    assert spans(running, datetime.fromisoformat(at("14:00:09")))["prepare"] == (0, 9)
