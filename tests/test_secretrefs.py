"""Secrets are read where the reference points, when they are needed, and are never told in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamless.config import Secret, SecretRef
from seamless.errors import ConfigError
from seamless.secretrefs import resolve


def test_a_variable_is_read_at_the_time_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = SecretRef(env="TOKEN")
    monkeypatch.setenv("TOKEN", "first value")
    assert resolve(ref) == "first value"
    monkeypatch.setenv("TOKEN", "second value")
    assert resolve(ref) == "second value"
    monkeypatch.delenv("TOKEN")
    with pytest.raises(ConfigError, match=r'^the secret \{ env = "TOKEN" \} is not set in the agent\'s environment$'):
        resolve(ref)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hunter2222", "hunter2222"),
        (b"hunter2222\n", "hunter2222"),
        (b"hunter2222\r\n", "hunter2222"),
        (b"hunter2222\n\n", "hunter2222\n"),
        (b"line one\nline two\n", "line one\nline two"),
        ("pässwörd".encode(), "pässwörd"),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_not_part_of_the_secret(tmp_path: Path, content: bytes, value: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    assert resolve(Secret(file=file, expose=["pr"])) == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"abcde", "has fewer than 6 characters"),
        (b"abcde\n", "has fewer than 6 characters"),
        (b"", "has fewer than 6 characters"),
        (b"caf\xe9 caf\xe9", "is not UTF-8 text"),
        (b"abcd\0efgh", "holds a NUL character"),
        (b"x" * (64 * 1024 + 1), "is larger than 64 KiB"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_without_telling_it(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        resolve(SecretRef(file=file))
    assert caught.value.message.startswith(f'the secret {{ file = "{file}" }} {said}')
    told = f"{caught.value.message} {caught.value.hint} {caught.value.__cause__}"
    assert not any(part in told for part in ("abcd", "caf", "xxxx"))
    assert caught.value.__cause__ is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing.* cannot be read: no such file or directory"):
        resolve(SecretRef(file=tmp_path / "missing"))
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        resolve(SecretRef(file=tmp_path))
