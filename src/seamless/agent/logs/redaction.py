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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from seamless.errors import ProgrammingError

MIN_SECRET: Final = 6  # characters; anything shorter would mask half of every log
MASK: Final = b"***"

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_PERCENT: Final = re.compile(rb"%[0-9A-F]{2}")
_WRAPS: Final = (76, 64)  # columns: coreutils and MIME, OpenSSL
_HEAD: Final = 4  # bytes of a form that make a place worth a closer look; less than any form has


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
        self._forms = sorted({form for secret in secrets for form in _forms_of(secret)}, key=len, reverse=True)
        self._longest = len(self._forms[0]) if self._forms else 0
        self._probes = _probes(self._forms)
        self._by_head: dict[bytes, list[bytes]] = {}
        for form in self._forms:
            self._by_head.setdefault(form[:_HEAD], []).append(form)
        self._heads = _alternation(self._by_head)

    def __bool__(self) -> bool:
        return bool(self._forms)

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
        found = {form for probe, forms in self._probes.items() if probe in data for form in forms if form in data}
        if not found:
            return
        pattern = _alternation(sorted(found, key=len, reverse=True))
        match = pattern.search(data)
        while match is not None:
            yield match.span()
            match = pattern.search(data, match.start() + 1)

    def undecided(self, data: bytes) -> int:
        """Where the earliest form begins that `data` ends in the middle of; len(data) when there is none."""
        size = len(data)
        first = max(size - self._longest + 1, 0)
        match = self._heads.search(data, first)
        while match is not None:
            start = match.start()
            if any(_begins(form, data, start) for form in self._by_head[match.group()]):
                return start
            match = self._heads.search(data, start + 1)
        for start in range(max(size - _HEAD + 1, first), size):  # too short for a head
            if any(_begins(form, data, start) for form in self._forms):
                return start
        return size


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


def _begins(form: bytes, data: bytes, start: int) -> bool:
    return len(form) > len(data) - start and form.startswith(data[start:])


def _alternation(words: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, words)))


def _probes(forms: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    """The forms that contain no other one, each with all forms that contain it.

    Searching for these alone tells whether there is anything to do: a quarter of the work for a usual
    secret. One `in` per probe beats one regular expression for all by far (it skips instead of looking
    at each byte).
    """
    probes: dict[bytes, list[bytes]] = {}
    for form in sorted(forms, key=len):
        within = [probe for probe in probes if probe in form]
        for probe in within:
            probes[probe].append(form)
        if not within:
            probes[form] = [form]
    return probes


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
