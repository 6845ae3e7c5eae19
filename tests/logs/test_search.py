"""Searching a log: every line that a plain look through the text finds, in either direction, whatever is asked."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.agent.logs import LogId, LogStore, search
from seamless.agent.logs.search import Found
from seamless.errors import UsageError
from seamless.loglines import BLOCK, piece_at, starts_after
from seamless.model import StageName
from seamless.patterns import compiled

from .test_log_store import write

LOG = LogId("payment-42", StageName.UNIT_TEST)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "payment" / "payment-42" / "unit_test.log"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = LogStore(tmp_path, 1 << 30)
    yield store
    store.close()


def find(file: Path, pattern: str, start: int, *, backwards: bool = False, limit: int = 1000) -> Found:
    """All there is to find from `start` on, in as many calls as that takes."""
    expression = compiled(pattern, ignore_case=False)
    size = file.stat().st_size
    options = {"backwards": backwards, "limit": limit, "budget_s": 0.0}
    whole = Found(start)
    while whole.reached > 0 if backwards else whole.reached < size:
        found = search.search(file, size, expression, whole.reached, **options)  # type: ignore[arg-type]
        whole.matches += found.matches
        whole.reached = found.reached
    return whole


LINES = st.lists(st.text(st.sampled_from("ab \t\x1b[31mé\r"), max_size=30), max_size=40)


@given(LINES, st.integers(0, 1200), st.booleans(), st.integers(1, 5), st.sampled_from([64, 100, 300]))
def test_a_search_finds_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], start: int, backwards: bool, limit: int, chunk: int
) -> None:
    shown = [line.replace("\x1b", "").replace("\r", "") for line in lines]
    data = "".join(f"{line}\n" for line in shown).encode()
    file = tmp_path_factory.mktemp("log") / "log"
    file.write_bytes(data)
    offsets = [match.start() for match in re.finditer(rb"(?m)^.*\n", data)]
    start = min(start, len(data))
    wanted = [
        (offset, line.encode())
        for offset, line in zip(offsets, shown, strict=True)
        if "ab" in line and (offset < start) == backwards
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_CHUNK", chunk)
        patch.setattr(search, "_BACKWARD_CHUNK", chunk)
        patch.setattr(search, "BLOCK", 1)
        found = find(file, "ab", start, backwards=backwards, limit=limit)
    in_order = sorted(wanted, reverse=backwards)
    if backwards and start < len(data) and start not in offsets:
        return  # the last line was cut at `start`
    assert [(match.offset, match.text) for match in found.matches] == in_order


def test_what_is_searched_is_what_people_see(tmp_path: Path) -> None:
    file = tmp_path / "log"
    lines = [
        b"\x1b[32mPASS\x1b[0m a.test.ts\r\n",
        b" 10%\r 50%\rdone 100%\n",
        b"\x1b]52;c;PASS\x07nothing\n",
        b"x PASS a\n",
    ]
    file.write_bytes(b"".join(lines))
    assert [match.offset for match in find(file, "^PASS a", 0).matches] == [0]
    assert [match.offset for match in find(file, "^done", 0).matches] == [len(lines[0])]
    assert find(file, "50%|52;c", 0).matches == []
    assert [match.offset for match in find(file, "PASS", file.stat().st_size, backwards=True).matches] == [
        sum(map(len, lines[:3])),
        0,
    ]
    assert find(file, "PASS", 0).matches[0].text == lines[0][:-1]


def test_no_match_goes_over_the_end_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"one\ntwo\n")
    assert find(file, r"e\st|e[^x]t", 0).matches == []


def test_a_line_without_end_is_found_by_its_pieces(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"short\n" + b"y" * (5 * search._CHUNK) + b"needle" + b"y" * 70_000 + b"\nneedle\n")
    far = 6 + 5 * search._CHUNK
    forward = [match.offset for match in find(file, "needle", 0).matches]
    assert forward == [far - far % BLOCK, file.stat().st_size - 7]
    backward = find(file, "needle", file.stat().st_size, backwards=True)
    assert [match.offset for match in backward.matches] == forward[::-1]
    assert all(len(match.text) <= 8192 for match in backward.matches)


@pytest.mark.parametrize("pattern", ["a(b", r"(?=x)", r"(a)\1", "[", "\ud800"])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is not a regular expression"):
        compiled(pattern, ignore_case=False)


def test_an_expression_that_is_a_trap_for_others_takes_no_time(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * 60 + b"\n" + b"x" * 200_000)
    began = time.monotonic()
    assert find(file, "(x+x+)+y", 0).matches == []
    assert time.monotonic() - began < 60


def test_a_search_leaves_the_event_loop_its_turns(store: LogStore, path: Path) -> None:
    write(path, b"\x1b[32mok\x1b[0m some line of a log\r\n" * 1_000_000, cap=1 << 30).close()

    async def main() -> None:
        searching = asyncio.create_task(store.search(LOG, "nowhere", 0, ignore_case=True, backwards=False, limit=10))
        turns = 0
        while not searching.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 5  # on the loop it would have had one or two
        found, size = await searching
        assert 0 < found.reached <= size

    asyncio.run(main())


def test_a_search_that_takes_too_long_says_how_far_it_came(store: LogStore, path: Path) -> None:
    line = b"some line of a log\n"
    write(path, line * 1_000_000, cap=1 << 30).close()

    at, size, answers = 0, len(line) * 1_000_000, 0
    while at < size:
        expression = compiled("nowhere", ignore_case=False)
        found = search.search(path, size, expression, at, backwards=False, limit=10, budget_s=0)
        assert at < found.reached <= size
        at = found.reached
        answers += 1
    assert answers > 1


def test_lines_by_number_and_offset(store: LogStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CHUNK", 7)
    lines = [b"one", b"", b"three and more", b"four", b""]
    data = b"\n".join(lines)
    write(path, data).close()
    starts = [0, 4, 5, 20]

    async def main() -> None:
        for number, start in enumerate(starts, 1):
            assert await store.start_of_line(LOG, number) == (number, start)
            assert await store.line_at(LOG, start) == (number, start)
        assert await store.line_at(LOG, 12) == (3, 5)
        assert await store.start_of_line(LOG, 99) == (4, 20)
        assert await store.line_at(LOG, 10**9) == (5, 25)
        nothing = LogId("payment-43", StageName.BUILD)
        assert await store.start_of_line(nothing, 3) == await store.line_at(nothing, 3) == (1, 0)
        assert (await store.search(nothing, "x", 5, ignore_case=False, backwards=True, limit=1))[0].matches == []

    asyncio.run(main())


@given(st.lists(st.integers(0, 5 * BLOCK), max_size=12), st.integers(1, 5 * BLOCK))
def test_lines_begin_at_the_same_places_wherever_one_looks(newlines: list[int], size: int) -> None:
    log = bytearray(b"x" * size)
    for at in newlines:
        if at < size:
            log[at] = 10
    data = bytes(log)
    starts = [0]
    for base in range(0, size, BLOCK):
        starts += starts_after(data[base : base + BLOCK], base)
    assert starts == sorted(set(starts))
    assert max(b - a for a, b in zip(starts, [*starts[1:], size], strict=True)) <= 2 * BLOCK
    for start in starts:
        if start < size:
            line = data.rfind(b"\n", 0, start) + 1
            assert piece_at(line, start) == start
