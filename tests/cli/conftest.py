from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .fake_agent import FakeAgent

Seamless = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user whose home is empty, in UTC, in an empty working directory."""
    for name in [name for name in os.environ if name.startswith(("SEAMLESS_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def agent(home: Path) -> Iterator[FakeAgent]:
    """An agent that answers at $SEAMLESS_SOCKET; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="s") as folder, FakeAgent(Path(folder, "a.sock")).serving() as agent:
        yield agent


@pytest.fixture
def seamless(home: Path, request: pytest.FixtureRequest) -> Seamless:
    """The command as a real process, without a terminal; at the fake agent's socket when the test has one."""
    agent = request.getfixturevalue("agent") if "agent" in request.fixturenames else None

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **more}
        if agent is not None:
            env.setdefault("SEAMLESS_SOCKET", str(agent.socket))
        done = subprocess.run(
            [sys.executable, "-m", "seamless", *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr
        return done

    return call
