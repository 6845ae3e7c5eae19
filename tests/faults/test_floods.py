"""Output without measure, and clients that do not read it: the agent stays small, and the runs do not notice."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Shop
from harness.agents import Agent, stages
from harness.invariants import assert_accounted_for, await_cleaned
from seamless.transitions import RUN_ENDED

pytestmark = pytest.mark.engine

LINES = 300_000  # of each of four containers; three seconds at 100,000 a second
_SPEED = r"""
awk 'BEGIN { for (i = 1; i <= 300000; i++) printf "%06d the quick brown fox jumps over the lazy dog\n", i }'
"""
_HOSTILE = r"""
printf 'plain\n'
printf '\033]0;owned\007\033[2J\033[31mred\033[0m\233A\342\200\256abc\r\n'
dd if=/dev/urandom bs=1M count=8 2>/dev/null
printf '\nsecret: %s\n' "$TOKEN"
head -c 50000000 /dev/zero | tr '\0' x
printf '\nend\n'
"""


@contextlib.contextmanager
def never_reading(agent: Agent, *paths: str) -> Iterator[None]:
    """Clients that ask and then read nothing."""
    clients = []
    for path in paths:
        client = socket.socket(socket.AF_UNIX)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(str(agent.socket))
        client.sendall(f"GET /v1/{path} HTTP/1.1\r\nHost: agent\r\n\r\n".encode())
        clients.append(client)
    try:
        yield
    finally:
        for client in clients:
            client.close()


def memory_mib(agent: Agent) -> float:
    """The most that the agent's process has held."""
    assert agent.process is not None
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def test_four_floods_at_once_with_clients_that_never_read(shop: Shop) -> None:
    agent = shop.agent
    shop.start(f"unit_test = '''{_SPEED}'''\ncode_quality = '''{_SPEED}'''", agent="max_parallel_runs = 2")
    agent.run("web", checks=True)
    before_mib = memory_mib(agent)
    runs = [agent.client.start_run("web", checks=True)["id"] for _ in range(2)]
    stalled = [f"runs/{run}/stages/{stage}/log?follow=true" for run in runs for stage in ("unit_test", "code_quality")]
    with never_reading(agent, *stalled, *["events/stream?after=0"] * 20):
        for run in runs:
            ended = agent.wait_run(run, RUN_ENDED)
            assert ended["state"] == "success", stages(ended)
        agent.client.status()
        for run in runs:
            for stage in ("unit_test", "code_quality"):
                lines = b"".join(agent.client.log(run, stage)).splitlines()
                assert len(lines) == LINES
                assert lines[0].startswith(b"000001 the quick")
                assert lines[-1].startswith(b"300000 the quick")
        assert memory_mib(agent) - before_mib < 64
    assert_accounted_for(agent)


def test_a_line_of_fifty_megabytes_bytes_of_all_kinds_and_escapes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMLESS_TEST_TOKEN", "s3cr3t-t0k3n-of-the-shop")
    agent = shop.agent
    shop.start(f"unit_test = '''{_HOSTILE}'''\nsecrets = {{ TOKEN = {{ env = 'SEAMLESS_TEST_TOKEN' }} }}")
    before_mib = memory_mib(agent)
    ended = agent.run("web", checks=True)
    assert ended["state"] == "success", stages(ended)
    stored = b"".join(agent.client.log("web-1", "unit_test"))
    assert b"\x1b]0;owned\x07\x1b[2J" in stored  # as it was written
    assert stored.count(b"x" * 50_000_000) == 1
    assert b"\nsecret: ***\n" in stored
    await_cleaned(agent)  # of what is not redacted yet
    kept = [path for path in agent.data_dir.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    assert kept == []  # neither in the log nor in the database, nor anywhere else
    assert stored.endswith(b"\nend\n")
    assert memory_mib(agent) - before_mib < 64
    shown = agent.cli("logs", "web-1", "unit_test").stdout
    for control in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07"):
        assert control not in shown
    assert "red" in shown
    assert_accounted_for(agent)
