"""Masks secrets in a stream of bytes, before anything of it is stored.

A secret is looked for in the forms that tools print by accident: as it is, URL-encoded, inside a JSON
string, in base64 (alone, wrapped, or as a part of a longer encoded text), and line by line. A byte is
masked when it belongs to any occurrence of any form; one `***` stands for each chain of occurrences
that overlap. So what is masked depends on the bytes alone, never on how they were cut into chunks.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final
from urllib.parse import quote

from seamless.errors import ProgrammingError

MIN_SECRET: Final = 6  # characters; anything shorter would mask half of every log
MASK: Final = b"***"

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_PERCENT: Final = re.compile(rb"%[0-9A-F]{2}")
_WRAPS: Final = (76, 64)  # columns: coreutils and MIME, OpenSSL
_GRAM: Final = 8  # bytes of a machine word
_LONG: Final = 2 * _GRAM - 1  # bytes that contain an aligned word wherever they lie
_MANY: Final = 32  # long probes from which on looking at all words costs less than searching for each
_TAIL: Final = 8  # bytes at the end of the data that tell where to look closer


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream stands: all before `offset` is dealt with, and of what follows the first `masked`
    bytes have their `***` in the output already."""

    offset: int = 0
    masked: int = 0


class Patterns:
    """The forms of some secrets, ready to be searched for.

    Raises ProgrammingError for a secret of fewer than six characters (the configuration refuses those).
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = sorted({form for secret in secrets for form in _forms_of(secret)}, key=len)
        self._containing = _probes(forms)
        long = [probe for probe in self._containing if len(probe) >= _LONG]
        self._by_gram = _grams(long) if len(long) > _MANY else {}
        self._grams = frozenset(self._by_gram)
        self._one_by_one = [probe for probe in self._containing if not self._grams or len(probe) < _LONG]
        self._all = b"".join(forms)
        self._ends = list(accumulate(map(len, forms)))  # of the forms in `_all`
        self._beginnings = {form[:size] for form in forms for size in range(1, min(len(form), _TAIL))}

    def __bool__(self) -> bool:
        return bool(self._all)

    def redact(self, data: bytes) -> bytes:
        """All of `data` at once."""
        redactor = Redactor(self)
        return redactor.feed(data) + redactor.finish()

    def redact_json(self, value: Any) -> Any:
        """`value` with every text in it redacted; keys are left as they are."""
        match value:
            case str():
                return self.redact(value.encode(errors="surrogateescape")).decode(errors="replace")
            case Mapping():
                return {key: self.redact_json(each) for key, each in value.items()}
            case list() | tuple():
                return [self.redact_json(each) for each in value]
            case _:
                return value

    def occurrences(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of the longest form at each place where one begins: in order, overlapping ones too."""
        probes = [probe for probe in self._likely(data) if probe in data]
        found = {form for probe in probes for form in self._containing[probe] if form in data}
        if not found:
            return
        pattern = _alternation(sorted(found, key=len, reverse=True))
        match = pattern.search(data)
        while match is not None:
            yield match.span()
            match = pattern.search(data, match.start() + 1)

    def undecided(self, data: bytes) -> int:
        """Where the earliest form begins that `data` ends in the middle of; len(data) when there is none.

        Looks for the end of the data in the forms, not for the forms in the data: they are fewer bytes,
        and not a stage's to choose.
        """
        size, longest = len(data), 0
        if size >= _TAIL:
            tail = data[-_TAIL:]
            at = self._all.find(tail)
            while at >= 0:
                number = bisect_right(self._ends, at)
                start = self._ends[number - 1] if number else 0
                end = at + _TAIL
                if longest < end - start <= size and end < self._ends[number] and data.endswith(self._all[start:end]):
                    longest = end - start
                at = self._all.find(tail, at + 1)
        if not longest:
            shorter = range(min(size, _TAIL - 1), 0, -1)
            longest = next((length for length in shorter if data[-length:] in self._beginnings), 0)
        return size - longest

    def _likely(self, data: bytes) -> Iterable[bytes]:
        """The probes that may be in `data`, perhaps some more."""
        if not self._grams:
            return self._one_by_one
        words = memoryview(data)[: len(data) // _GRAM * _GRAM].cast("Q")
        likely = {probe for gram in self._grams.intersection(words) for probe in self._by_gram[gram]}
        return [*self._one_by_one, *likely]


class Redactor:
    """`feed` chunks, then `finish`; the outputs together are the redacted stream.

    What may be the beginning of a secret is held back until the next chunk decides, at most the length
    of the longest form. `position` is where another redactor with the same secrets goes on with the
    same result: feed it the stream from `position.offset` on.
    """

    def __init__(self, patterns: Patterns, position: Position | None = None) -> None:
        self.position = position or Position()
        self._patterns = patterns
        self._held = b""

    @property
    def read_to(self) -> int:
        """The offset after the last byte that was fed; those since `position.offset` are held back."""
        return self.position.offset + len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        if not self._patterns:
            self.position = Position(self.position.offset + len(chunk))
            return chunk
        data = self._held + chunk if self._held else chunk
        return self._mask(data, self._patterns.undecided(data))

    def finish(self) -> bytes:
        """The stream has ended (or broken off): what is still held back."""
        return self._mask(self._held, len(self._held))

    def _mask(self, data: bytes, end: int) -> bytes:
        """The redacted form of `data[:end]`; an occurrence that reaches beyond `end` is remembered in `position`."""
        out: list[bytes] = []
        covered = self.position.masked
        for start, stop in self._patterns.occurrences(data):
            if start >= end:
                break
            if start >= covered:
                out += (data[covered:start], MASK)
            covered = max(covered, stop)
        out.append(data[covered:end])
        self.position = Position(self.position.offset + end, max(covered - end, 0))
        self._held = data[end:]
        return b"".join(out)


def _alternation(words: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, words)))


def _probes(forms: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    """Of forms in order of length, those that contain no other one; each with all forms that contain it.

    Searching for these tells whether there is anything to do: a quarter of the work for a usual secret.
    One `in` for each beats one regular expression for all by far (it skips instead of looking at each
    byte), but takes its time for each.
    """
    probes: dict[bytes, list[bytes]] = {}
    for form in forms:
        within = [probe for probe in probes if probe in form]
        for probe in within:
            probes[probe].append(form)
        if not within:
            probes[form] = [form]
    return probes


def _grams(probes: Iterable[bytes]) -> dict[int, list[bytes]]:
    """Machine words -> the probes that have them in one of the first eight places.

    However a probe of fifteen bytes or more lies in the data, one of these is one of the data's aligned
    words. So a single look-up per word, all of it in C, tells for any number of probes which may be there.
    """
    by_gram: dict[int, list[bytes]] = {}
    for probe in probes:
        for at in range(_GRAM):
            by_gram.setdefault(int.from_bytes(probe[at : at + _GRAM], sys.byteorder), []).append(probe)
    return by_gram


def _forms_of(secret: str) -> set[bytes]:
    if len(secret) < MIN_SECRET:
        raise ProgrammingError(f"a secret of fewer than {MIN_SECRET} characters cannot be masked")
    forms: set[bytes] = set()
    for value in {secret, secret.strip()}:
        lines = [line.strip() for line in _LINE_END.split(value)]
        if len(lines) > 1:
            forms.update(map(_bytes, lines))
        for text in {value, "\n".join(lines), "\r\n".join(lines)}:
            forms.add(_bytes(text.strip() if len(text.strip()) >= MIN_SECRET else text))  # line ends stay line ends
            forms |= _encodings(text)
    return {form for form in forms if len(form) >= MIN_SECRET}


def _encodings(text: str) -> set[bytes]:
    raw = _bytes(text)
    forms = {json.dumps(text)[1:-1].encode(), _bytes(json.dumps(text, ensure_ascii=False)[1:-1])}
    for safe in ("", "/", "!'()*"):  # strict, path, JavaScript's encodeURIComponent
        encoded = quote(raw, safe=safe).encode()
        for form in (encoded, encoded.replace(b"%20", b"+")):
            forms |= {form, _PERCENT.sub(lambda match: match.group().lower(), form)}
    for alphabet in (b"+/", b"-_"):
        forms |= set(_base64_forms(raw, alphabet))
    return forms


def _base64_forms(raw: bytes, alphabet: bytes) -> Iterator[bytes]:
    alone = base64.b64encode(raw, alphabet)
    yield alone
    yield alone.rstrip(b"=")
    for width in _WRAPS:
        if len(alone) > width:
            yield from (alone[at : at + width] for at in range(0, len(alone), width))
    for before in range(3):  # bytes that share the first group of a longer text: the digits that only ours decide
        encoded = base64.b64encode(bytes(before) + raw, alphabet)
        yield encoded[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
