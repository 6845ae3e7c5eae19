"""No form of a secret gets through, no other byte is touched, and no cut between chunks shows."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless.agent.logs.redaction import Patterns, Position, Redactor
from seamless.errors import ProgrammingError

TOKEN = 's3cr3t/with+odd & "chars"=~é\''
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nshort\n-----END KEY-----\n"


def redact(data: bytes | str, *secrets: str) -> bytes:
    return Patterns(secrets).redact(data.encode() if isinstance(data, str) else data)


def lower_percent(text: str) -> str:
    return re.sub("%..", lambda match: match.group().lower(), text)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(TOKEN, id="plain"),
        pytest.param(quote(TOKEN), id="URL path"),
        pytest.param(quote(TOKEN, safe=""), id="URL component"),
        pytest.param(quote_plus(TOKEN), id="form"),
        pytest.param(quote(TOKEN, safe="!'()*"), id="encodeURIComponent"),
        pytest.param(lower_percent(quote_plus(TOKEN)), id="form in lower case"),
        pytest.param(json.dumps(TOKEN)[1:-1], id="JSON"),
        pytest.param(json.dumps(TOKEN, ensure_ascii=False)[1:-1], id="JSON in UTF-8"),
        pytest.param(base64.b64encode(TOKEN.encode()).decode(), id="base64"),
        pytest.param(base64.urlsafe_b64encode(TOKEN.encode()).decode(), id="urlsafe base64"),
        pytest.param(base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("="), id="urlsafe base64, no padding"),
    ],
)
def test_every_form_is_masked_whole(form: str) -> None:
    assert redact(f"before {form}, after {form}\n", TOKEN) == b"before ***, after ***\n"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"u", b"u:", b"us:", b"user:", b"a longer text: "])
@pytest.mark.parametrize("after", [b"", b"@", b"@x", b"@host/\xff\xfe"])
def test_base64_of_a_text_around_the_secret(encode: object, before: bytes, after: bytes) -> None:
    secret = "Tr0ub4dor&3>>>???"
    encoded = encode(before + secret.encode() + after)  # type: ignore[operator]
    masked = redact(encoded, secret)
    assert masked.count(b"***") == 1
    head, _, tail = masked.partition(b"***")
    assert encoded.startswith(head)
    assert encoded.endswith(tail)
    assert len(head) <= (8 * len(before) + 5) // 6, "only digits that hold a bit of what is before"
    assert len(tail.rstrip(b"=")) <= (8 * len(after) + 5) // 6 + 1


@pytest.mark.parametrize("width", [76, 64])
def test_wrapped_base64(width: int) -> None:
    secret = "".join(chr(33 + index * 7 % 90) for index in range(200))
    encoded = base64.b64encode(secret.encode())
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    assert redact(b"\n".join(lines) + b"\n", secret) == b"***\n" * len(lines)


def test_a_secret_of_many_lines() -> None:
    assert redact(f"key:\n{KEY}end", KEY) == b"key:\n***\nend"
    assert redact(KEY.replace("\n", "\r\n"), KEY) == b"***\r\n"
    indented = "".join(f"    {line}\r\n" for line in KEY.splitlines())
    assert redact(indented, KEY) == b"    ***\r\n    ***\r\n    ***\r\n    short\r\n    ***\r\n"
    assert redact(json.dumps(KEY), KEY) == b'"***"'
    assert redact(base64.b64encode(KEY.encode()), KEY) == b"***"
    assert redact("...hkiG9w0BAQEFAASC...", KEY) == b"...***..."


def test_a_line_end_around_the_value_makes_no_difference() -> None:
    assert redact("hunter2hunter2 hunter2hunter2\n!", "hunter2hunter2\n") == b"*** ***\n!"


def test_the_longest_of_nested_secrets_is_masked() -> None:
    assert redact("xx secret-longer yy secret zz", "secret", "secret-longer") == b"xx *** yy *** zz"


def test_each_of_many_secrets_is_found_wherever_it_lies() -> None:
    values = [f"{number:02}-a-token-" + "0123456789"[: number % 10] for number in range(40)]  # 11 to 20 bytes
    patterns = Patterns([*values, "shorty"])
    assert patterns.redact(b"nothing of it here " * 100) == b"nothing of it here " * 100
    for value in [*values, "shorty"]:
        for before in range(17):
            for after in range(9):
                data = b"." * before + value.encode() + b"." * after
                assert patterns.redact(data) == b"." * before + b"***" + b"." * after


def test_a_value_too_short_to_mask_is_refused_without_saying_it() -> None:
    with pytest.raises(ProgrammingError) as caught:
        Patterns(["abcde"])
    assert "abcde" not in str(caught.value)


def test_without_secrets_everything_passes_at_once() -> None:
    redactor = Redactor(Patterns([]))
    assert redactor.feed(b"anything") == b"anything"
    assert redactor.position == Position(8)
    assert redactor.finish() == b""


def test_only_a_possible_beginning_is_held_back() -> None:
    redactor = Redactor(Patterns(["secret-value"]))
    assert redactor.feed(b"no, see") == b"no, see"
    assert redactor.feed(b"; secre") == b"; "
    assert redactor.position == Position(9)
    assert redactor.read_to == 14
    assert redactor.feed(b"cy") == b"secrecy"
    assert redactor.feed(b" secret-valu") == b" "
    assert redactor.feed(b"e.") == b"***."
    assert redactor.feed(b" s") == b" "
    assert redactor.finish() == b"s"


def test_of_two_possible_beginnings_the_earlier_is_held_back() -> None:
    redactor = Redactor(Patterns(["one-two-three", "two-three-four-five"]))
    assert redactor.feed(b"so: one-two-thre") == b"so: "
    assert redactor.feed(b"e-four-five.") == b"***."


def test_every_cut_through_every_form() -> None:
    text = f"{TOKEN}|{quote_plus(TOKEN)}|{json.dumps(TOKEN)}|{base64.b64encode(b'x' + TOKEN.encode()).decode()}|"
    data = f"{text}\n{KEY}{KEY}".encode()
    patterns = Patterns([TOKEN, KEY])
    whole = patterns.redact(data)
    for cut in range(len(data) + 1):
        redactor = Redactor(patterns)
        assert redactor.feed(data[:cut]) + redactor.feed(data[cut:]) + redactor.finish() == whole


cuts = st.lists(st.integers(0, 80), max_size=8)


@st.composite
def secrets_in_text(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Secrets of two letters, and a text of pieces of them: they overlap, and nearly occur, all the time."""
    short, repeating = st.text("ab", min_size=6, max_size=12), st.text("ab", min_size=3, max_size=6)
    values = draw(st.lists(short | repeating.map(lambda text: text * 5), min_size=1, max_size=3))
    whole = st.sampled_from(values)
    beginning = st.builds(lambda value, size: value[:size], whole, st.integers(1, 29))
    end = st.builds(lambda value, size: value[-size:], whole, st.integers(1, 29))
    pieces = st.lists(whole | beginning | end | st.sampled_from([".", "a", "b"]), max_size=12)
    return values, "".join(draw(pieces)).encode()


def cut_up(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def mask_by_definition(data: bytes, values: list[str]) -> bytes:
    """A `***` for each chain of overlapping occurrences, looked for at each place."""
    spans = sorted(
        (start, start + len(value))
        for value in values
        for start in range(len(data))
        if data.startswith(value.encode(), start)
    )
    out, covered = b"", 0
    for start, end in spans:
        if start >= covered:
            out += data[covered:start] + b"***"
        covered = max(covered, end)
    return out + data[covered:]


@settings(deadline=None)
@given(secrets_in_text())
def test_what_is_masked_is_what_the_definition_says(case: tuple[list[str], bytes]) -> None:
    values, data = case
    assert redact(data, *values) == mask_by_definition(data, values)


@settings(deadline=None)
@given(secrets_in_text())
def test_held_back_is_what_a_secret_may_begin_with_and_no_more(case: tuple[list[str], bytes]) -> None:
    values, data = case
    redactor = Redactor(Patterns(values))
    redactor.feed(data)
    ends = (start for start in range(len(data)) for value in values if starts_only(value.encode(), data[start:]))
    assert redactor.position.offset == min(ends, default=len(data))


def starts_only(value: bytes, data: bytes) -> bool:
    return value.startswith(data) and value != data


@settings(deadline=None)
@given(secrets_in_text(), cuts)
def test_cuts_do_not_show(case: tuple[list[str], bytes], at: list[int]) -> None:
    values, data = case
    redactor = Redactor(Patterns(values))
    longest = max(map(len, values)) * 4  # its base64 form, roughly
    parts = []
    for chunk in cut_up(data, at):
        parts.append(redactor.feed(chunk))
        assert redactor.read_to - redactor.position.offset < longest
    assert b"".join(parts) + redactor.finish() == redact(data, *values)


@settings(deadline=None)
@given(secrets_in_text(), cuts)
def test_another_redactor_goes_on_at_the_position(case: tuple[list[str], bytes], at: list[int]) -> None:
    values, data = case
    patterns = Patterns(values)
    parts, position = [], Position()
    for end in [*sorted(at), len(data)]:
        redactor = Redactor(patterns, position)
        parts.append(redactor.feed(data[position.offset : max(end, redactor.read_to)]))
        position = redactor.position
    assert b"".join(parts) + redactor.finish() == redact(data, *values)


@settings(deadline=None)
@given(data=st.binary(max_size=200), at=cuts, value=st.text(min_size=6, max_size=40))
def test_any_bytes_around_any_secret(data: bytes, at: list[int], value: str) -> None:
    for chunk in (value.encode(errors="replace"), base64.b64encode(value.encode(errors="replace"))):
        whole = data + chunk + data
        redactor = Redactor(Patterns([value]))
        out = b"".join(map(redactor.feed, cut_up(whole, at))) + redactor.finish()
        assert out == redact(whole, value)
        assert chunk not in out or chunk in b"***"
