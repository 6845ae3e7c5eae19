"""However often, and wherever, SIGKILL meets the agent: each byte of the spool is in the log once, no secret is."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seamless.agent.logs import LogId, LogStore
from seamless.agent.logs.redaction import Patterns
from seamless.model import StageName

LOG = LogId("payment-42", StageName.BUILD)
SECRETS = ["hunter2-hunter2", "line one of it\nline two of it\n", "aaaaaaa"]
AGENTS = Path(__file__).with_name("killed_recorder.py")
KILLS = 30


def output(chance: random.Random) -> bytes:
    """Some output of a stage, full of secrets and of what begins like one."""
    words = [
        *(secret.encode() for secret in SECRETS),
        base64.b64encode(b"user:" + SECRETS[0].encode()),
        *(b"word%d" % number for number in range(10)),
        b"aaaa",
        b"\n",
        b"\x00\xff",
    ]
    return b" ".join(chance.choice(words) for _ in range(50_000))


def write_while_running(agents: subprocess.Popen[bytes], spool: Path, chance: random.Random) -> bytes:
    """Writes to the spool in pieces that cut through the secrets, until the agents are done; returns it all."""
    stock, pieces = output(chance), []
    with open(spool, "ab", buffering=0) as out:
        while agents.poll() is None:
            start = chance.randrange(len(stock))
            piece = stock[start : start + chance.choice([1, 10, 1000, 10_000])]
            out.write(piece)
            pieces.append(piece)
            time.sleep(0.001)
    return b"".join(pieces)


def record_the_rest(root: Path, spool: Path) -> bytes:
    store = LogStore(root, 1 << 30)

    async def main() -> bytes:
        async with store.record(LOG, 1, spool, SECRETS):
            pass
        return await store.read(LOG, 0, await store.size(LOG))

    try:
        return asyncio.run(main())
    finally:
        store.close()


@pytest.mark.parametrize(("seed", "manner"), [(1, "lines"), (2, "silent")])
def test_kills_at_random_lose_and_double_nothing(tmp_path: Path, seed: int, manner: str) -> None:
    root, spool, told_path = tmp_path / "logs", tmp_path / "out", tmp_path / "told"
    arguments = [str(root), str(spool), str(KILLS), str(seed), manner, *SECRETS]
    with open(told_path, "wb") as told_file:
        agents = subprocess.Popen([sys.executable, AGENTS, *arguments], stdout=told_file)
        written = write_while_running(agents, spool, random.Random(seed))
    assert agents.returncode == 0
    log = record_the_rest(root, spool)
    expected = Patterns(SECRETS).redact(written)
    if manner == "silent":
        assert log == expected
        return
    told = told_path.read_bytes().splitlines()
    lines = re.findall(rb"^seamless: (agent \d+ line \d+)$", log, re.MULTILINE)
    assert told
    assert len(lines) == len(set(lines)), "no line of an agent's own is doubled"
    assert set(told) <= set(lines), "none that an agent knew of is lost"
    # A line of the agent's begins on a line of its own, for which a newline may have been put in.
    rest = re.sub(rb"seamless: agent \d+ line \d+\n", b"", log)
    assert rest.replace(b"\n", b"") == expected.replace(b"\n", b"")


@pytest.mark.parametrize("point", ["log.chunk:after_write", "log.chunk:after_index"])
def test_a_kill_at_each_named_point_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    root, spool = tmp_path / "logs", tmp_path / "out"
    code = """
import asyncio, sys
from pathlib import Path
from seamless.agent.logs import LogId, LogStore
async def main():
    root, spool, *secrets = sys.argv[1:]
    async with LogStore(Path(root), 1 << 30).record(LogId("payment-42", "build"), 1, Path(spool), secrets):
        pass
asyncio.run(main())
"""
    pieces = [b"one hunter2-", b"hunter2 two\nhunt", b"er2-hunter2 three aaaaaaaaaaa\n"]
    for piece in pieces:
        with open(spool, "ab") as out:
            out.write(piece)
        killed = subprocess.run(
            [sys.executable, "-c", code, root, spool, *SECRETS],
            env={**os.environ, "SEAMLESS_CRASH_AT": point},
            timeout=60,
        )
        assert killed.returncode == -9
    assert record_the_rest(root, spool) == Patterns(SECRETS).redact(b"".join(pieces))
