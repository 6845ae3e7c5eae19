"""Help and version: what they say, and how little they load."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from seamless import __version__
from seamless.cli.main import app

from .conftest import Seamless
from .fake_agent import FakeAgent
from .scripted_runs import scripted

pytestmark = pytest.mark.fake

FORBIDDEN = ("docker", "boto3", "botocore", "github", "pydantic", "fastapi", "textual", "aiosqlite", "uvicorn")


def test_help_and_version_load_next_to_nothing(home: Path) -> None:
    script = (
        "import sys; from seamless.cli.main import main; sys.argv = ['seamless', '--help']; main();"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("LOADED ")[2].split())
    assert "typer" in loaded
    assert not loaded & {*FORBIDDEN, "httpx", "rich", "websockets", "tomllib", "asyncio"}


def test_commands_load_nothing_of_the_agent(agent: FakeAgent) -> None:
    scripted(agent, "prepare")
    agent.answers["GET", "status"] = (200, [])
    script = (
        "import sys; from seamless.cli.main import main; main();"
        "print('LOADED', *sorted({'.'.join(name.split('.')[:2]) for name in sys.modules}))"
    )
    for arguments in (["status"], ["show", "payment-42"]):
        done = subprocess.run(
            [sys.executable, "-c", script, "--socket", str(agent.socket), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(done.stdout.partition("LOADED ")[2].split())
        ours = {f"seamless.{room}" for room in ("agent", "stages", "executors", "targets", "forges", "aws", "config")}
        assert loaded & {*FORBIDDEN, *ours} == set()
        assert "httpx" in loaded


def test_every_command_reads_like_a_page_of_a_manual() -> None:
    def commands(command: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
        yield " ".join(path), command
        for name, one in getattr(command, "commands", {}).items():
            yield from commands(one, [*path, name])

    found = dict(commands(typer.main.get_command(app), []))
    assert {"run", "runs", "show", "logs", "approve", "agent", "agent start", "service list", "notify"} <= set(found)
    for name, command in found.items():
        examples = command.help.partition("Example")[2]
        assert name in examples, name
        assert ("s:" in examples[:2]) == (len(re.findall(r"^  \S", examples, re.M)) > 1), name
        assert not name or not command.get_short_help_str().endswith("..."), name
        # What is laid out by hand stays on a terminal of 80 columns, with click's own margin.
        for block in command.help.split("\n\n"):
            assert not block.startswith("\b") or max(map(len, block.splitlines())) <= 78, (name, block)
        for parameter in command.params:
            shown = not getattr(parameter, "hidden", False)
            assert not shown or getattr(parameter, "help", None), f"{name} {parameter.name} says nothing of itself"


def test_version(seamless: Seamless) -> None:
    assert seamless("--version").stdout == f"seamless {__version__}\n"
