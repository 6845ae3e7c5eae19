"""Hostile bytes in, nothing but text, line ends and colours out; whatever the cuts between chunks."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless.logtext import ASCII_GLYPHS, GLYPHS, Sanitiser, glyphs, plain, word
from seamless.transitions import DeploymentState, RunState, StageState

ALLOWED_SGR = re.compile(r"\x1b\[[0-9]{1,3}(;[0-9]{1,3}){0,40}m")
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def shown(*chunks: bytes, colour: bool = True) -> str:
    sanitiser = Sanitiser(colour=colour)
    return "".join(map(sanitiser.feed, chunks)) + sanitiser.finish()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"plain\ttext\n", "plain\ttext\n", id="plain"),
        pytest.param("höhe ✔ 漢字 👍\n".encode(), "höhe ✔ 漢字 👍\n", id="unicode"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"\n\n", "\n\n", id="empty lines"),
        pytest.param(b"no line end", "no line end", id="unended line"),
        # Operating system commands and other strings, with every terminator and without one
        pytest.param(b"a\x1b]52;c;aGk=\x07b\n", "ab\n", id="OSC 52 clipboard, BEL"),
        pytest.param(b"a\x1b]0;title\x1b\\b\n", "ab\n", id="OSC title, ST"),
        pytest.param("a\x1b]0;title\x9cb\n".encode(), "ab\n", id="OSC title, C1 ST"),
        pytest.param(b"a\x1b]0;title\x18b\n", "ab\n", id="OSC cancelled by CAN"),
        pytest.param(b"a\x1b]0;unterminated\nb\n", "a\nb\n", id="OSC unterminated ends with its line"),
        pytest.param(b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link\n", id="OSC 8 hyperlink keeps its text"),
        pytest.param(b"a\x1bPq#0;2;0\x1b\\b\n", "ab\n", id="DCS"),
        pytest.param(b"a\x1b_Gf=100;AAAA\x1b\\b\n", "ab\n", id="APC"),
        pytest.param(b"a\x1b^pm\x1b\\b\x1bXsos\x1b\\c\n", "abc\n", id="PM and SOS"),
        pytest.param(b"a\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\b\n", "ab\n", id="tmux pass-through"),
        pytest.param(b"a\x1b]0;x\x1b[31mred\n", "a\x1b[31mred\x1b[0m\n", id="OSC broken off by a colour"),
        # C1: UTF-8 encoded it is a sequence to some terminals, as a lone byte it is broken UTF-8
        pytest.param("a\x9d52;c;aGk=\x07b\x9b2Jc\x85d\x90q\x9ce\n".encode(), "abcde\n", id="C1 in UTF-8"),
        pytest.param(b"a\x9b2Jb\n", "a\ufffd2Jb\n", id="C1 as bytes"),
        # Control sequences
        pytest.param(b"\x1b[2J\x1b[H\x1b[1;1Ha\x1b[Kb\x1b[?25l\x1b[6nc\n", "abc\n", id="screen, cursor, report"),
        pytest.param(b"a\x1bcb\x1b7c\x1b(0d\x1b#8e\x1b=f\n", "abcdef\n", id="ESC reset, charset, alignment"),
        pytest.param(b"a\x1b[>4;2mb\x1b[?1mc\x1b[1 md\n", "abcd\n", id="m that is no colour"),
        pytest.param(b"a\x1b[" + b"1;" * 5000 + b"mb\n", "ab\n", id="endless parameters"),
        pytest.param(b"a\x1b[31\nb\n", "a\nb\n", id="CSI broken off by the line's end"),
        pytest.param(b"a\x1b\x1b\x1b[31mb\n", "a\x1b[31mb\x1b[0m\n", id="several ESC"),
        pytest.param(b"a\x1b", "a", id="ESC at the end"),
        pytest.param(b"a\x1b[3", "a", id="CSI at the end"),
        # Controls and what cannot be seen
        pytest.param(b"a\x00b\x07c\x08d\x0be\x0cf\x7fg\n", "abcdefg\n", id="C0, NUL, DEL"),
        pytest.param("a\u202eb\u2066c\u200bd\ufeffe\u200df\u2028g\U000e0041h\n".encode(), "abcdefgh\n", id="bidi"),
        pytest.param(b"a\xff\xfeb\xe2\x82\n", "a\ufffd\ufffdb\ufffd\n", id="invalid UTF-8"),
        pytest.param(b"a\xe2\x82", "a\ufffd", id="UTF-8 cut off at the end"),
        pytest.param(b"a\xed\xa0\x80b\xc0\xafc\n", "a\ufffd\ufffd\ufffdb\ufffd\ufffdc\n", id="surrogate, overlong"),
        # Carriage returns
        pytest.param(b"a\r\nb\r\r\nc\r\n", "a\nb\nc\n", id="CRLF"),
        pytest.param(b" 1%\r 50%\r100%\ndone\n", "100%\ndone\n", id="progress bar"),
        pytest.param(b"working\r\x1b[Kdone\r", "done", id="progress bar, erased, unended"),
        pytest.param(b"\x1b[32m 1%\r\x1b[33m 2%\x1b[0m\n", "\x1b[33m 2%\x1b[0m\n", id="coloured progress"),
        pytest.param(b"\x1b[32m 1%\r 2%\n", "\x1b[32m 2%\x1b[0m\n", id="colour outlives the overwriting"),
        pytest.param(b"\x1b[31m50%\r\x1b[0m\n", "\x1b[31m50%\x1b[0m\n", id="a reset overwrites nothing"),
        # Colours
        pytest.param(b"\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m\n", id="red"),
        pytest.param(b"\x1b[31mred\nnot red\n", "\x1b[31mred\x1b[0m\nnot red\n", id="no bleeding into the next line"),
        pytest.param(b"\x1b[1;31;40mx\x1b[22mx\x1b[39;49mx\n", "\x1b[1;31;40mx\x1b[0;31;40mx\x1b[0mx\n", id="parts"),
        pytest.param(b"\x1b[mx\x1b[1mx\x1b[mx\n", "x\x1b[1mx\x1b[0mx\n", id="empty is reset"),
        pytest.param(b"\x1b[38;5;208mx\n", "\x1b[38;5;208mx\x1b[0m\n", id="256 colours"),
        pytest.param(b"\x1b[38:2::1:2:3mx\n", "\x1b[38;2;1;2;3mx\x1b[0m\n", id="true colour with colons"),
        pytest.param(b"\x1b[38;5;999mx\x1b[48;2;1mx\x1b[38mx\x1b[999mx\n", "xxxx\n", id="colours that are none"),
        pytest.param(b"\x1b[58;5;1mx\x1b[4:3my\x1b[4:0mz\n", "x\x1b[4my\x1b[0mz\n", id="underline colour and style"),
        pytest.param(b"\x1b[8mhidden\x1b[5mblink\n", "hiddenblink\n", id="nothing hidden or blinking"),
        pytest.param(b"\x1b[31m\x1b[32m\x1b[33m\n", "\n", id="colours of nothing"),
    ],
)
def test_only_text_and_colours_come_through(data: bytes, expected: str) -> None:
    assert shown(data) == expected
    assert shown(*(bytes([byte]) for byte in data)) == expected, "byte by byte"


def test_without_colour_nothing_but_text_is_left() -> None:
    assert shown(b"\x1b[1;31mred\x1b[0m\r\x1b[38;5;1mblue\n", colour=False) == "blue\n"


# Bytes that matter to some state are frequent, so that sequences get built and broken everywhere.
_STARTS = [b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x9b", b"\xc2\x9b", b"\xc2\x9d", b"\xe2\x80\xae", b"\xe2"]
_MIDDLES = [b"[", b"31", b";", b":", b"38;5;", b"0", b"\x80", b"text", b"\t"]
_ENDS = [b"m", b"K", b"\r", b"\n", b"\r\n", b"\x07", b"\x1b\\"]
_PIECES = st.sampled_from([*_STARTS, *_MIDDLES, *_ENDS])
hostile = st.lists(_PIECES | st.binary(max_size=4), max_size=30).map(b"".join)


@settings(deadline=None)
@given(data=hostile, cuts=st.lists(st.integers(0, 120), max_size=6), colour=st.booleans())
def test_the_cuts_between_chunks_do_not_show(data: bytes, cuts: list[int], colour: bool) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    assert shown(*chunks, colour=colour) == shown(data, colour=colour)


@settings(deadline=None)
@given(data=hostile | st.binary(max_size=200), colour=st.booleans())
def test_no_control_comes_through(data: bytes, colour: bool) -> None:
    text = shown(data, colour=colour)
    rest = ALLOWED_SGR.sub("", text) if colour else text
    assert not FORBIDDEN.search(rest)
    for line in text.split("\n"):
        codes = [match.group() for match in ALLOWED_SGR.finditer(line)]
        assert not codes or codes[-1] == "\x1b[0m", "no line bleeds into what follows it"


@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Mn", "Lo"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert shown(text.encode() + b"\n") == text + "\n"


def test_a_long_line_is_not_held_back_and_can_no_longer_be_overwritten() -> None:
    sanitiser = Sanitiser()
    for _ in range(100):
        assert len(sanitiser.partial) <= 64 * 1024
        sanitiser.feed(b"x" * 1000)
    assert sanitiser.feed(b"\x1b[31mred\rnext\n") == "\x1b[31mred\x1b[0m\n\x1b[31mnext\x1b[0m\n"


def test_colours_without_text_cost_no_memory() -> None:
    sanitiser = Sanitiser()
    for _ in range(1000):
        sanitiser.feed(b"\x1b[31m\x1b[32m" * 100 + b"\x1b[" + b"9" * 1000)
    assert sanitiser.partial == ""


def test_an_unended_line_can_be_looked_at() -> None:
    sanitiser = Sanitiser()
    assert sanitiser.feed(b"done\n\x1b[32m....") == "done\n"
    assert sanitiser.partial == "\x1b[32m....\x1b[0m"
    assert sanitiser.feed(b"..\n") == "\x1b[32m......\x1b[0m\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Retry card declines", "Retry card declines"),
        ("  two\n lines\tand\r\nmore ", "two lines and more"),
        ("good\revil", "good evil"),
        ("\x1b[31mred\x1b]0;t\x07 title", "red title"),
        ("feature/\u202egnp.exe", "feature/gnp.exe"),
        ("broken \udcff byte", "broken ? byte"),
        ("[bold]no markup[/]", "[bold]no markup[/]"),
    ],
)
def test_plain_makes_one_line(text: str, expected: str) -> None:
    assert plain(text) == expected


@settings(deadline=None)
@given(st.text())
def test_plain_is_one_line_without_controls_and_stays_so(text: str) -> None:
    line = plain(text)
    assert not FORBIDDEN.search(line)
    assert "\n" not in line
    assert "\t" not in line
    assert plain(line) == line


def test_every_state_has_a_glyph_and_a_word() -> None:
    for state in (*RunState, *StageState, *DeploymentState, "on_hold"):
        assert len(GLYPHS[state]) == 1
        assert ASCII_GLYPHS[state].isascii()
        assert "_" not in word(state)
    assert GLYPHS.keys() == ASCII_GLYPHS.keys()


def test_glyphs_follow_the_terminal() -> None:
    assert glyphs("utf-8") is GLYPHS
    assert glyphs("ascii") is ASCII_GLYPHS
    assert glyphs("iso-8859-1") is ASCII_GLYPHS
    assert glyphs(None) is ASCII_GLYPHS
    assert glyphs("no such encoding") is ASCII_GLYPHS
