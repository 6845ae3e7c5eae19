"""What the tests of the screens show: a shop, at one moment; and what the screen then says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from textual import events
from textual.pilot import Pilot

from cli.fake_agent import FakeAgent, run, stage
from seamless.rendering.runs import Viewer
from seamless.tui.app import SeamlessApp
from seamless.tui.settings import Settings

NOW = datetime(2026, 12, 3, 14, 10, 0, tzinfo=UTC)
GOLDENS = Path(__file__).with_name("goldens")
SIZES = [(80, 24), (120, 40), (200, 60)]
HOSTILE = b"\x1b]52;c;ZWNobw==\x07\x1b[2J\x1b[31mred\x1b[0m \xe2\x80\xaeover \x1bcreset \x9b31m\x00 end\n"


def at(clock: str) -> str:
    return f"2026-12-03T{clock}+00:00"


def sha(beginning: str) -> str:
    return beginning + "0" * (40 - len(beginning))


def release(commit: str, deployed_at: str, state: str = "success") -> dict[str, Any]:
    return {
        "commit": sha(commit),
        "digest": f"sha256:{commit}",
        "run": "x-1",
        "deployed_at": deployed_at,
        "address": None,
        "state": state,
        "drift": None,
    }


def status(service: str, head: str, staging: Any, production: Any, **more: Any) -> dict[str, Any]:
    return {
        "service": service,
        "head": {"commit": sha(head), "seen_at": at("12:00:00")},
        "staging": staging,
        "production": production,
        "waiting": None,
        "running": [],
        "last": None,
        "red_since": None,
        "hold": None,
        "problem": None,
        **more,
    }


def passed(name: str, start: str, end: str, **more: Any) -> dict[str, Any]:
    return stage(name, "success", attempt=1, started_at=at(start), ended_at=at(end), **more)


def failed_run() -> dict[str, Any]:
    tests = {
        "tests": 48,
        "failed": 2,
        "skipped": 0,
        "failures": [
            {"name": "POST /payments › declines are retried", "message": "expected 3, received 1"},
            {"name": "logs the amount", "message": "no such column"},
        ],
    }
    return run(
        "payment-43",
        "failure",
        started_at=at("14:02:11"),
        ended_at=at("14:02:24"),
        reason="unit_test: exit code 1",
        stages=[
            passed("prepare", "14:02:11", "14:02:15", detail={"note": "kept tree, 12 files changed"}),
            passed("code_quality", "14:02:15", "14:02:18"),
            stage(
                "unit_test",
                "failure",
                attempt=1,
                started_at=at("14:02:15"),
                ended_at=at("14:02:24"),
                reason="exit code 1",
                exit_code=1,
                detail={"tests": tests},
            ),
            stage("build", "cancelled", attempt=1, started_at=at("14:02:15"), ended_at=at("14:02:24")),
            stage("integration_test", "skipped", reason="unit_test failed"),
            stage("deploy_staging", "skipped", reason="unit_test failed"),
            stage("deploy_production", "skipped", reason="unit_test failed"),
        ],
    )


def waiting_run() -> dict[str, Any]:
    peers = [
        {"service": "notification", "commit": sha("1e930b4"), "digest": "sha256:aa11", "source": "production"},
        {"service": "gateway", "commit": sha("fc010d4"), "digest": "sha256:bb22", "source": "production"},
    ]
    commits = [
        {"commit": sha("9f3c2ab"), "subject": "Retry card declines", "author": "ann", "committed_at": at("13:00:00")},
        {"commit": sha("5b2d1f7"), "subject": "Log the amount", "author": "Bob", "committed_at": at("11:00:00")},
    ]
    approval = {
        "run": "inventory-19",
        "service": "inventory",
        "lets_through": "production",
        "why": "staging runs 9f3c2ab and is healthy",
        "production": {
            "commit": sha("7d01c9e"),
            "subject": "Count the boxes",
            "author": "Bob",
            "committed_at": "2026-11-30T14:00:00+00:00",
        },
        "commits": commits,
        "commits_known": True,
        "image": image("9f3c2ab", "inventory-19"),
        "tested_against": peers,
        "staging": None,
        "task_definition": "image only; cpu, memory, environment unchanged",
        "hold": None,
        "expires_at": "2026-12-13T14:02:00+00:00",
    }
    return run(
        "inventory-19",
        "awaiting_approval",
        commit=sha("9f3c2ab"),
        started_at=at("13:58:00"),
        stages=[
            passed("prepare", "13:58:00", "13:58:04"),
            stage("code_quality", "skipped", reason="no code_quality command is set"),
            passed("unit_test", "13:58:04", "13:58:20"),
            passed("build", "13:58:04", "13:58:30"),
            passed("integration_test", "13:58:30", "14:00:00", detail={"peers": peers}),
            passed("deploy_staging", "14:00:00", "14:02:00", detail={"address": "http://127.0.0.1:18081"}),
            stage("deploy_production"),
        ],
        approval=approval,
    )


def running_run() -> dict[str, Any]:
    return run(
        "search-9",
        "in_progress",
        commit=sha("c9d0aa1"),
        started_at=at("14:09:40"),
        stages=[
            passed("prepare", "14:09:40", "14:09:44", detail={"note": "kept tree"}),
            stage("unit_test", "in_progress", attempt=2, started_at=at("14:09:44"), usual_s=30.0),
            stage("build", "in_progress", attempt=1, started_at=at("14:09:44")),
        ],
    )


def image(commit: str, by: str, **more: Any) -> dict[str, Any]:
    return {
        "service": by.rpartition("-")[0],
        "commit": sha(commit),
        "digest": f"sha256:{commit}" + "c" * 57,
        "ref": f"sha256:{commit}",
        "tag": sha(commit),
        "built_at": at("13:58:30"),
        "run": by,
        "deployable": True,
        "environments": [],
        "subject": "Retry card declines",
        "author": "ann",
        **more,
    }


def deployment(number: int, environment: str, commit: str, ended: str, state: str = "success") -> dict[str, Any]:
    return {
        "id": number,
        "service": "inventory",
        "environment": environment,
        "run": f"inventory-{number}",
        "trigger": "manual",
        "commit": sha(commit),
        "digest": f"sha256:{commit}" + "c" * 57,
        "state": state,
        "reason": None,
        "created_at": ended,
        "ended_at": ended,
    }


def fleet_of_a_shop(agent: FakeAgent) -> None:
    failed, waiting, running = failed_run(), waiting_run(), running_run()
    agent.runs |= {one["id"]: one for one in (failed, waiting, running)}
    agent.runs["inventory"] = waiting  # by its service's name
    hold = {"why": "duplicate e-mails", "by": "bob", "since": at("10:00:00"), "commit": sha("0c35e04")}
    fleet = [
        status(
            "gateway",
            "fc010d4",
            release("fc010d4", at("12:10:00")),
            release("fc010d4", "2026-12-02T12:00:00+00:00"),
            last=run("gateway-7", "success", ended_at=at("12:10:00")),
        ),
        status(
            "inventory",
            "9f3c2ab",
            release("9f3c2ab", at("14:02:00")),
            release("7d01c9e", "2026-11-27T12:00:00+00:00"),
            waiting=waiting,
        ),
        status(
            "notification",
            "1e930b4",
            release("1e930b4", "2026-11-29T12:00:00+00:00"),
            release("0c35e04", "2026-11-29T12:00:00+00:00"),
            hold=hold,
        ),
        status(
            "payment",
            "9f3c2ab",
            release("7d01c9e", at("11:00:00")),
            release("7d01c9e", at("11:10:00"), "unknown"),
            last=failed,
            red_since={"since": at("14:02:24"), "run": "payment-43", "stage": "unit_test", "reason": "exit code 1"},
        ),
        status("search", "c9d0aa1", None, None, running=[running]),
    ]
    agent.answers["GET", "status"] = (200, fleet)
    agent.answers["GET", "version"] = (
        200,
        {
            "api": 1,
            "version": "0",
            "pid": 1,
            "ready": True,
            "config_file": "/etc/seamless/config.toml",
            "config_error": None,
            "data_dir": "/",
        },
    )
    agent.answers["GET", "runs"] = (200, [waiting, run("inventory-18", "success", ended_at=at("11:00:00"))])
    agent.answers["GET", "images"] = (
        200,
        [
            image("9f3c2ab", "inventory-19", environments=["staging"]),
            image("7d01c9e", "inventory-12", subject="Count the boxes", author="Bob", environments=["production"]),
            image("88a1e02", "inventory-9", subject="Open the shop", built_at="2026-11-20T12:00:00+00:00"),
            image("deadbee", "inventory-8", deployable=False),
        ],
    )
    agent.answers["GET", "deployments"] = (
        200,
        [
            deployment(19, "staging", "9f3c2ab", at("14:02:00")),
            deployment(12, "production", "7d01c9e", "2026-11-27T12:00:00+00:00"),
            deployment(9, "production", "88a1e02", "2026-11-20T12:05:00+00:00"),
        ],
    )
    log = b"".join(b"test %d \x1b[32mok\x1b[0m\n" % number for number in range(200))
    agent.logs["payment-43", "unit_test"] = log + HOSTILE + b"test 201 \x1b[31mFAIL\x1b[0m declines are retried\n"
    agent.logs["search-9", "unit_test"] = b"one\ntwo\n"
    agent.logs["inventory-19", "deploy_staging"] = b"seamless: healthy\n"


class App(SeamlessApp):
    """At `NOW`, as ann."""

    def __init__(self, socket: Path, settings: Settings | None = None, **more: Any) -> None:
        super().__init__(socket, "ann", settings or Settings(None), **more)

    def viewer(self) -> Viewer:
        return Viewer("ann", NOW, self._glyphs)


class Driver:
    """A user in front of the screen."""

    def __init__(self, app: App, pilot: Pilot[None]) -> None:
        self.app = app
        self._pilot = pilot

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self._pilot.press(*("space" if char == " " else char for char in text))

    def type_at_once(self, *keys: str) -> None:
        """Faster than the program is: nothing is waited for between two keys."""
        for key in keys:
            self.app.post_message(events.Key(key, key if len(key) == 1 else {"slash": "/"}.get(key)))

    async def resize(self, width: int, height: int) -> None:
        await self._pilot.resize_terminal(width, height)

    @property
    def screen(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips).rstrip()

    @property
    def title(self) -> str:
        """The uppermost line, as wide as it is."""
        return "".join(segment.text for segment in self.app.screen._compositor.render_strips()[0])

    async def sees(self, *texts: str, gone: str = "\0", within_s: float = 60.0) -> str:
        """The screen, once all of this is on it."""
        return await self.until(lambda screen: all(text in screen for text in texts) and gone not in screen, within_s)

    async def rests(self, for_s: float = 0.2) -> str:
        """The screen, once it has stayed the same for a while."""
        before, since = self.screen, time.monotonic()
        while time.monotonic() - since < for_s:
            await asyncio.sleep(0.02)
            if (now := self.screen) != before:
                before, since = now, time.monotonic()
        return before

    async def until(self, is_so: Callable[[str], bool], within_s: float = 60.0) -> str:
        deadline = time.monotonic() + within_s
        while not is_so(screen := self.screen):
            assert time.monotonic() < deadline, screen
            await asyncio.sleep(0.02)
        return screen


@asynccontextmanager
async def in_front_of(agent: FakeAgent | Path, size: tuple[int, int] = (80, 24), **more: Any) -> AsyncIterator[Driver]:
    """The program, once it shows the fleet."""
    app = App(agent if isinstance(agent, Path) else agent.socket, **more)
    async with app.run_test(size=size, notifications=True) as pilot:
        driver = Driver(app, pilot)
        if not isinstance(agent, Path):
            await driver.sees("5 services")
        yield driver


async def golden(user: Driver, name: str, size: tuple[int, int], update: bool) -> None:
    """The screen must become the one that is kept."""
    file = GOLDENS / f"{name}-{size[0]}x{size[1]}.txt"
    if update:
        file.write_text(await user.rests() + "\n", encoding="utf-8")
    kept = file.read_text(encoding="utf-8").rstrip("\n")
    try:
        await user.until(lambda screen: screen == kept)
    except AssertionError as error:
        raise AssertionError(f"{file.name}; SEAMLESS_GOLDENS=new writes it anew; instead\n{error}") from None


def posted(agent: FakeAgent) -> list[tuple[str, Any]]:
    """What was asked of the agent that changes something."""
    return [(path, json.loads(body or b"null")) for method, path, _, body in agent.requests if method == "POST"]
