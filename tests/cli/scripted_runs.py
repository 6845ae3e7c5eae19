"""Runs of a fake agent, as they go."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .fake_agent import FakeAgent, run, stage


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def scripted(agent: FakeAgent, *stages: str, id: str = "payment-42") -> None:
    """A run that `seamless run payment` starts."""
    agent.runs[id] = run(id, stages=[stage(name) for name in stages])
    agent.answers["POST", "services/payment/runs"] = lambda: (201, agent.runs[id])


def succeed(agent: FakeAgent) -> None:
    agent.move("payment-42", "idle", name="create", at="14:02:10")
    agent.events[-1]["from_state"] = None
    agent.move("payment-42", "in_progress", at="14:02:11")
    agent.move("payment-42", "in_progress", stage="prepare", at="14:02:11", attempt=1)
    agent.move("payment-42", "success", stage="prepare", at="14:02:15.100")
    agent.move("payment-42", "skipped", stage="unit_test", at="14:02:15.100", reason="no command is set")
    agent.move("payment-42", "success", at="14:02:15.200")
