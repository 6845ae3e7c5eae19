"""Run by test_killed_recorder: agents that record one log, each killed in the middle of it.

`killed_recorder.py ROOT SPOOL KILLS SEED lines|silent SECRET…` forks one agent after the other and kills
each with SIGKILL: most a random time after they began to work, some while they start. An agent writes
lines of its own into the log, unless it is silent, and tells those that it knows to be there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from seamless.agent.logs import LogId, LogStore
from seamless.model import StageName


async def record(root: Path, spool: Path, agent: int, secrets: list[str], *, silent: bool, at_work_fd: int) -> None:
    store = LogStore(root, 1 << 30)
    async with store.record(LogId("payment-42", StageName.BUILD), 1, spool, secrets) as recording:
        for number in range(0 if silent else 10_000):
            await recording.line(f"agent {agent} line {number}")
            os.write(sys.stdout.fileno(), b"agent %d line %d\n" % (agent, number))
            os.write(at_work_fd, b"!")
            await asyncio.sleep(0.005)
        os.write(at_work_fd, b"!")
        await asyncio.sleep(60)


def main() -> None:
    root, spool, kills, seed, manner, *secrets = sys.argv[1:]
    silent = manner == "silent"
    chance = random.Random(int(seed))
    for agent in range(int(kills)):
        look_fd, at_work_fd = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(record(Path(root), Path(spool), agent, secrets, silent=silent, at_work_fd=at_work_fd))
        if chance.random() < 0.8:
            os.read(look_fd, 1)
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(look_fd)
        os.close(at_work_fd)


if __name__ == "__main__":
    main()
