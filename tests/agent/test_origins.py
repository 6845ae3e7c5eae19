"""From where an action was asked for, as far as the host tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seamless.agent.origins import login_address, origin_of


def test_a_process_is_named_and_where_it_logged_in_from() -> None:
    name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    assert origin_of(os.getpid(), address_of=lambda pid: "2001:db8::7") == f"{name}[{os.getpid()}] from 2001:db8::7"
    assert origin_of(os.getpid(), address_of=lambda pid: None) == f"{name}[{os.getpid()}]"


def test_a_process_that_is_gone_is_a_number(tmp_path: Path) -> None:
    assert origin_of(4711, proc=tmp_path) == "pid 4711"


@pytest.mark.parametrize("name", [b"evil\x1b]0;title\x07\n", b"\xff\xfe\n"])
def test_what_a_process_calls_itself_does_nothing_to_a_terminal(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/comm").write_bytes(name)
    assert origin_of(7, proc=tmp_path, address_of=lambda pid: "\x1b[2J").isprintable()


def test_a_process_without_a_login_has_no_address() -> None:
    assert login_address(1) is None
    assert login_address(2**31 - 1) is None
