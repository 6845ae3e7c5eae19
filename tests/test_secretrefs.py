"""Secrets are read where the reference points, when they are needed, and are never told in an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from seamless.config import Secret, SecretRef
from seamless.errors import ConfigError
from seamless.secretrefs import SecretUnreadableError, connect, resolve, resolve_all


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


# -- sources that the agent connects


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What a connected reader of `ssm` is asked for; it knows all places but /none, and calls each value after it."""
    requests: list[list[str]] = []

    def read(places: Sequence[str]) -> dict[str, str | SecretUnreadableError]:
        requests.append(list(places))
        known: dict[str, str | SecretUnreadableError] = {place: f"value of {place}" for place in places}
        return known | {"/none": SecretUnreadableError("is not there", "put it there")}

    monkeypatch.setattr("seamless.secretrefs._connected", {})
    connect({"ssm": read})
    return requests


def test_a_source_is_asked_once_for_all_that_a_stage_needs(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "of the host")
    refs = {
        "A": Secret(ssm="/a"),
        "B": Secret(env="TOKEN"),
        "C": Secret(ssm="/c", expose=["pr"]),
        "D": Secret(ssm="/a"),
    }
    assert resolve_all(refs) == {"A": "value of /a", "B": "of the host", "C": "value of /c", "D": "value of /a"}
    assert asked == [["/a", "/c"]]


def test_why_a_connected_source_has_no_secret_is_told_with_the_reference(asked: list[list[str]]) -> None:
    with pytest.raises(ConfigError, match=r'^the secret \{ ssm = "/none" \} is not there$') as refused:
        resolve_all({"A": SecretRef(ssm="/a"), "B": SecretRef(ssm="/none")})
    assert refused.value.hint == "put it there"


def test_a_source_that_nobody_connected_is_told(asked: list[list[str]]) -> None:
    with pytest.raises(ConfigError, match=r'^the secret \{ secretsmanager = "x" \} can be read by the agent only$'):
        resolve(SecretRef(secretsmanager="x"))


@pytest.mark.parametrize(
    ("key", "place", "is_right"),
    [
        ("ssm", "/payment/db", True),
        ("ssm", "db:3", True),
        ("ssm", "arn:aws:ssm:eu-central-1:123456789012:parameter/payment/db", True),
        ("ssm", "", False),
        ("ssm", "/payment db", False),
        ("ssm", "a:b:c", False),
        ("secretsmanager", "prod/mail", True),
        ("secretsmanager", "prod/mail:password", True),
        ("secretsmanager", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail-AbCdEf:password", True),
        ("secretsmanager", "prod mail", False),
        ("secretsmanager", "mail:a:b", False),
    ],
)
def test_what_a_place_in_aws_may_be(key: str, place: str, is_right: bool) -> None:
    try:
        ref = SecretRef.model_validate({key: place})
    except ValueError:
        assert not is_right
    else:
        assert is_right
        assert (ref.source, ref.place, ref.reference) == (key, place, f'{{ {key} = "{place}" }}')
