"""Programs of the host: what they get, where their output goes, and that nothing of them outlives its purpose."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seamless import programs
from seamless.errors import UnavailableError
from seamless.programs import Program, ProgramTimeoutError, base_environment, capture, run

PATH = {"PATH": os.environ["PATH"]}

# Tells the group's processes, and then cannot be stopped politely.
_STUBBORN = "trap '' TERM; sleep 300 & echo $$ $! >pids; wait; sleep 300"


def test_the_environment_is_what_was_given_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMLESS_SECRET", "x")
    answer = asyncio.run(capture(Program(["env"], env={"ONE": "1", "TWO": "a\nb"})))
    assert sorted(answer.stdout.splitlines()) == [b"ONE=1", b"TWO=a", b"b"]
    assert "SEAMLESS_SECRET" not in base_environment()


def test_secrets_in_the_environment_are_not_shown_with_the_program() -> None:
    assert "hunter2" not in repr(Program(["true"], env={"TOKEN": "hunter2"}))


def test_both_streams_are_appended_in_order(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text("before\n")
    script = Program(["sh", "-c", "echo 1; echo 2 >&2; echo 3; pwd; exit 3"], env=PATH, cwd=tmp_path)
    assert asyncio.run(run(script, output=output)) == 3
    assert output.read_text() == f"before\n1\n2\n3\n{tmp_path}\n"


def test_input_is_given_and_otherwise_empty() -> None:
    assert asyncio.run(capture(Program(["cat"], env=PATH, stdin=b"\0in\n"))).stdout == b"\0in\n"
    assert asyncio.run(capture(Program(["cat"], env=PATH))).stdout == b""
    assert asyncio.run(capture(Program(["true"], env=PATH, stdin=b"x" * 10**6))).exit_code == 0


def test_input_that_is_awaited_holds_the_program_back_until_it_comes(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.touch()

    async def main() -> None:
        later: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        script = Program(["sh", "-c", "echo started; cat"], env=PATH, stdin=later)
        running = asyncio.create_task(run(script, output=output))
        while output.read_text() != "started\n":  # noqa: ASYNC110  it says so to the file only
            await asyncio.sleep(0.01)
        assert not running.done()
        later.set_result(b"in\n")
        assert await running == 0
        assert output.read_text() == "started\nin\n"

    asyncio.run(main())


def test_errors_are_captured_and_copied(tmp_path: Path) -> None:
    script = Program(["sh", "-c", "echo out; echo one >&2; echo two >&2; exit 2"], env=PATH)
    answer = asyncio.run(capture(script, stderr=tmp_path / "err"))
    assert (answer.exit_code, answer.stdout, answer.stderr) == (2, b"out\n", b"one\ntwo\n")
    assert answer.message == "two"
    assert (tmp_path / "err").read_bytes() == b"one\ntwo\n"


def test_what_is_kept_of_the_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_CAPTURE_LIMIT", 100_000)
    answer = asyncio.run(capture(Program(["sh", "-c", "head -c 3000000 /dev/zero; echo end >&2"], env=PATH)))
    assert (len(answer.stdout), answer.stderr, answer.exit_code) == (100_000, b"end\n", 0)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no program no-such-program"):
        asyncio.run(run(Program(["no-such-program"]), output=tmp_path / "out"))
    with pytest.raises(UnavailableError, match="could not be started"):
        asyncio.run(run(Program(["true"], cwd=tmp_path / "nowhere"), output=tmp_path / "out"))


def test_a_timeout_kills_the_whole_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_KILL_GRACE_S", 0.2)
    script = Program(["sh", "-c", _STUBBORN], env=PATH, cwd=tmp_path)
    with pytest.raises(ProgramTimeoutError):
        asyncio.run(run(script, output=tmp_path / "out", timeout_s=0.5))
    _until(lambda: _alive(tmp_path) == [])


def test_a_child_that_outlives_its_parent_is_killed_too(tmp_path: Path) -> None:
    script = "(trap '' TERM; sleep 300) & echo $! >pids; wait"
    with pytest.raises(ProgramTimeoutError):
        asyncio.run(run(Program(["sh", "-c", script], env=PATH, cwd=tmp_path), output=tmp_path / "out", timeout_s=0.5))
    _until(lambda: _alive(tmp_path) == [])


def test_silence_is_told_from_slowness() -> None:
    talks = Program(["sh", "-c", "for n in $(seq 25); do sleep 0.1; echo $n >&2; done"], env=PATH)
    assert asyncio.run(capture(talks, silence_s=2.0)).exit_code == 0
    with pytest.raises(ProgramTimeoutError, match="wrote nothing for"):
        asyncio.run(capture(Program(["sleep", "300"], env=PATH), silence_s=0.3))


def test_cancelling_kills_the_group_and_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_KILL_GRACE_S", 0.2)

    async def main() -> None:
        script = Program(["sh", "-c", _STUBBORN], env=PATH, cwd=tmp_path)
        running = asyncio.create_task(run(script, output=tmp_path / "out"))
        await asyncio.to_thread(_until, lambda: _alive(tmp_path) != [])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    _until(lambda: _alive(tmp_path) == [])


def test_a_program_dies_with_its_agent(tmp_path: Path) -> None:
    agent = f"""
import asyncio, os
from pathlib import Path
from seamless.programs import Program, run
program = Program(["sh", "-c", "echo $$ >pids; exec sleep 300"], env={PATH!r}, cwd=Path({str(tmp_path)!r}))
asyncio.run(run(program, output=Path({str(tmp_path)!r}, "out")))
"""
    with subprocess.Popen([sys.executable, "-c", agent]) as process:
        _until(lambda: _alive(tmp_path) != [])
        process.send_signal(signal.SIGKILL)
    _until(lambda: _alive(tmp_path) == [])


def _alive(folder: Path) -> list[int]:
    """Which of the processes that wrote down their ids still run."""
    file = folder / "pids"
    ids = [int(word) for word in file.read_text().split()] if file.exists() else []
    return [process for process in ids if _runs(process)]


def _runs(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
