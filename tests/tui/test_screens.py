"""What each screen shows at three sizes, and what its keys do."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.worker import WorkerFailed

from cli.fake_agent import FakeAgent, error, run
from seamless import __version__
from seamless.errors import AgentUnreachableError, ConfigError
from seamless.logtext import ASCII_GLYPHS
from seamless.tui.app import SeamlessApp
from seamless.tui.keymap import checked
from seamless.tui.program import explained
from seamless.tui.settings import Settings

from .screens import SIZES, App, Driver, at, golden, in_front_of

pytestmark = [
    pytest.mark.fake,
    # httpcore leaves a Unix socket that could not be connected to the garbage collector
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

UPDATE = bool(os.environ.get("SEAMLESS_GOLDENS"))


async def to_fleet(user: Driver) -> None:
    await user.sees("search-9 unit_test")


async def to_service(user: Driver) -> None:
    await user.press("j", "enter")
    await user.sees("inventory-18")


async def to_images(user: Driver) -> None:
    await to_service(user)
    await user.press("2")
    await user.sees("88a1e02")


async def to_deployments(user: Driver) -> None:
    await to_service(user)
    await user.press("3")
    await user.sees("production   7d01c9e")


async def to_failed_run(user: Driver) -> None:
    await user.press("j", "j", "j", "l")
    await user.sees("FAIL declines", "% of")


async def to_running_run(user: Driver) -> None:
    await user.press("G", "l")
    await user.sees("following", "two")


async def to_evidence(user: Driver) -> None:
    await to_failed_run(user)
    await user.press("v")
    await user.sees("Failed tests of unit_test")


async def to_approval(user: Driver) -> None:
    await user.press("j", "a")
    await user.sees("Approve inventory-19 for production?")


async def to_rollback(user: Driver) -> None:
    await user.press("j", "b")
    await user.sees("now, since")


async def to_rollback_question(user: Driver) -> None:
    await to_rollback(user)
    await user.press("G", "enter")
    await user.sees('Type "inventory"')


async def to_help(user: Driver) -> None:
    await user.press("question_mark")
    await user.sees("Every action", "Approve") if user.app.size.height > 40 else await user.sees("Approve", "approve")


PLACES = [
    to_fleet,
    to_service,
    to_images,
    to_deployments,
    to_failed_run,
    to_running_run,
    to_evidence,
    to_approval,
    to_rollback,
    to_rollback_question,
    to_help,
]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_screens_look_as_they_are_kept(shop: FakeAgent, size: tuple[int, int]) -> None:
    async def main() -> None:
        wrong = []
        async with in_front_of(shop, size) as user:
            for go in PLACES:
                await go(user)
                try:
                    await golden(user, go.__name__.removeprefix("to_"), size, UPDATE)
                except AssertionError as error:
                    wrong.append(str(error))
                assert max(map(len, user.screen.split("\n"))) <= size[0]
                while len(user.app.screen_stack) > 2:
                    await user.press("escape")
                await user.press("g")
        assert not wrong, "\n".join(wrong)

    asyncio.run(main())


def test_a_narrow_terminal_has_one_pane(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop, (60, 20)) as user:
            await user.press("j", "j", "j", "l")
            screen = await user.sees("code_quality", "declines are retried", "tab next stage", gone="/ search")
            assert "test 199" not in screen
            await user.press("enter")
            await user.sees("test 199", "/ search", gone="code_quality")
            await user.press("g", "w")  # the log was hidden, and its keys work now
            await user.sees("test 1", "long lines are wrapped", gone="test 199")
            await user.press("G")
            await user.sees("test 199")
            await user.resize(100, 30)
            await user.press("escape")
            await user.sees("test 199", "code_quality")

    asyncio.run(main())


def test_a_new_size_is_followed_by_a_program_that_is_kept_from_the_processor(
    shop: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two looks at the clock of Textual's timers a second passes, as on a machine that is busy."""

    async def main() -> None:
        async with in_front_of(shop, (100, 30)) as user:
            seconds = itertools.count()
            monkeypatch.setattr("textual.timer._time.get_time", lambda: float(next(seconds)))
            for width in (60, 100, 70):
                await user.resize(width, 20)
                await user.until(lambda screen, width=width: len(user.title) == width)  # type: ignore[misc]
            monkeypatch.undo()

    asyncio.run(main())


def test_an_event_is_on_the_screen_and_only_its_service_is_asked_for(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop, (220, 24)) as user:
            await user.sees("search-9 unit_test")
            fleet = shop.answers["GET", "status"][1]  # type: ignore[index]
            fleet[4]["running"] = []
            fleet[4]["waiting"] = shop.runs["search-9"]
            shop.answers["GET", "status"] = (200, fleet[4:])
            for stage in ("unit_test", "build", "prepare"):
                fleet[4]["red_since"] = {"since": at("14:00:00"), "run": f"of-{stage}", "stage": None, "reason": None}
                shop.move("search-9", "failure", stage=stage)
                await user.sees(f"of-{stage}")
            asked = [query for _, path, query, _ in shop.requests if path == "status"]
            assert asked[0] == {}
            assert asked[1:] == [{"service": "search"}] * len(asked[1:])

    asyncio.run(main())


def test_lists_are_filtered_and_sorted(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("slash")
            await user.type("not 0c3")
            await user.press("enter")
            await user.sees("notification", "1/1", gone="gateway")
            await user.press("escape")
            await user.sees("gateway")
            await user.press("G", "slash")  # from the last row on
            await user.type("gate")
            await user.sees("1/1", "gateway", gone="search")
            await user.press("escape", "o")
            await user.sees("sorted by urgency")
            await user.until(
                lambda screen: screen.index("inventory") < screen.index("payment") < screen.index("notification")
            )

    asyncio.run(main())


async def to_events(user: Driver) -> None:
    await user.press("E")
    await user.sees("Everything that happened")


def test_events_say_who_did_what_in_words_that_users_know(shop: FakeAgent) -> None:
    deployed = {"environment": "production", "commit": "9f3c2ab" + "0" * 33}

    def happened(kind: str, name: str, to_state: str | None = None, **more: Any) -> None:
        event: dict[str, Any] = {
            "service": "payment",
            "run": "payment-43",
            "stage": None,
            "from_state": None,
            "reason": None,
        }
        event |= {"actor": None, "origin": None, "data": {}, **more}
        event |= {"id": len(shop.events) + 1, "at": at("14:02:11"), "kind": kind, "name": name, "to_state": to_state}
        with shop.changed:
            shop.events.append(event)
            shop.changed.notify_all()

    happened("config", "reload", service=None, run=None)
    happened("action", "run", actor="bob")
    happened("run", "create", "idle", actor="bob")
    happened("stage", "succeed", "success", stage="integration_test", actor="agent")
    happened("deployment", "record", "recorded", data=deployed)

    async def main() -> None:
        async with in_front_of(shop) as user:
            await to_events(user)
            screen = await user.sees("configuration loaded")
            rows = [line.split(maxsplit=3) for line in screen.split("\n")[1:7]]
            assert [row[:3] for row in rows[:5]] == [
                ["when", "who", "run"],
                *[["14:02:11", "agent", "payment-43"]] * 2,
                *[["14:02:11", "bob", "payment-43"]] * 2,
            ]
            assert [row[3].strip() for row in rows[1:5]] == [
                "○ production: to be deployed  9f3c2ab",
                "✔ integration_test success",
                "○ queued",
                "run",
            ]
            happened("deployment", "complete", "success", data=deployed)
            await user.sees("✔ production: deployed")
            await user.press("G", "l")
            await user.sees("this event is about no run")
            await user.press("Y")
            await user.sees("copied seamless events --all")
            await user.press("A")
            await user.sees("What people asked for", "bob  payment-43  run", gone="queued")

    asyncio.run(main())


def test_events_that_nobody_looks_at_are_asked_for_again_when_somebody_does(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await to_events(user)
            await user.sees("nothing has happened yet")
            for _ in range(1001):
                shop.move("search-9", "in_progress", stage="unit_test")
            await user.until(lambda screen: screen.split("\n")[0].endswith(" 800+"))
            for count in (" 1000+", " 1001"):
                await user.press("G")
                await user.until(lambda screen, count=count: screen.split("\n")[0].endswith(count))  # type: ignore[misc]

    asyncio.run(main())


def test_a_shell_is_refused_on_the_screen_where_nothing_failed(
    shop: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(App, "run_command", lambda _, *arguments: commands.append(arguments))
    refused = "and a shell opens where"

    async def main() -> None:
        async with in_front_of(shop, (140, 30)) as user:
            await user.press("G", "S")
            await user.sees(f"no command of search-9 failed, {refused} one did")
            await user.press("k", "l")
            await user.sees("FAIL declines", "% of")
            await user.press("2", "S")
            await user.sees(f"code_quality of payment-43 is success, {refused}", "stage failed. unit_test failed")
            await user.press("5", "S")
            await user.sees("integration_test runs no commands to look into. unit_test failed")
            assert not commands
            await user.press("3", "S")
            await user.until(lambda _: bool(commands))

    asyncio.run(main())
    assert commands == [("shell", "payment-43", "unit_test")]


def test_a_log_is_gone_through_sideways(shop: FakeAgent) -> None:
    lines = ["short", "日本" * 24 + "|", "\t".join("abcdefghijklm") + "|"]
    shop.logs["payment-43", "unit_test"] = "".join(line + "\n" for line in lines).encode()

    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("j", "j", "j", "l")
            await user.sees("short", "日本")
            await user.press("right")
            await user.sees("column 9", "本日本", "b       c", gone="a       b")
            await user.press("right", "right", "right", "right")
            screen = await user.sees("column 25", "m|", "日本|")
            assert "short" not in screen
            await user.press("left", "left")
            await user.sees("column 9")
            await user.press("0")
            await user.sees("short", "a       b", gone="column")
            await user.press("w", "right")
            await user.sees("long lines are wrapped: w cuts them", "m|")

    asyncio.run(main())


def test_a_slow_filter_and_a_slow_search_tell_how_far_they_are_and_are_stopped(shop: FakeAgent) -> None:
    """The agent looks through a tenth of the log when the test lets it."""
    lines = [
        b"needle %03d in a haystack\n" % n if n % 300 == 299 else b"straw  %03d of a haystack\n" % n
        for n in range(1000)
    ]
    shop.logs["payment-43", "unit_test"] = b"".join(lines)
    shop.logs["payment-43", "code_quality"] = b"code is fine\n"
    shop.search_bytes = 100 * len(lines[0])
    shop.searches = moments = threading.Semaphore(0)

    def asked() -> int:
        return sum(path.endswith("/search") for _, path, _, _ in shop.requests)

    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("j", "j", "j", "l")
            await user.sees("straw  999")
            await user.press("ampersand")
            await user.type("needle")
            await user.press("enter")
            await user.sees("no line that matches was found so far", gone="straw")
            moments.release(2)
            await user.sees("▌needle 899", "searched back to 80 %; esc stops")
            moments.release(3)
            await user.sees(" needle 599", "▌needle 899", "searched back to 50 %")
            await user.press("k")
            moments.release()
            await user.sees("▌needle 599", " needle 899", "searched back to 40 %")
            await user.press("escape")
            moments.release()
            await user.sees("stopped, searched back to 30 %")
            before = asked()
            await user.press("j", "j")  # down at the end, where nothing is missing
            await user.sees("▌needle 899")
            assert asked() == before
            await user.press("k", "k")  # up beyond what is known: looks on
            moments.release(10)
            await user.sees("needle 299", "needle 599", gone="searched")
            await user.press("escape")
            await user.sees("▌needle 299", "straw  300", gone="&needle")

            while moments.acquire(blocking=False):
                pass
            await user.press("g", "slash")
            await user.type("nowhere")
            await user.press("enter")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("G")  # whoever goes elsewhere does not wait
            moments.release()
            await user.sees("straw  999", gone="searched")
            await user.press("g", "n")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("slash")
            await user.type("(")
            await user.press("enter")
            moments.release()
            await user.sees("'(' is not a regular expression", gone="searched")
            await user.press("n")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("escape")
            moments.release()
            await user.sees("▌straw  000", "stopped, searched up to 20 %")
            await user.press("n")
            moments.release()
            await user.sees("searched up to 10 %; esc stops")
            await user.press("2")  # nor does another log
            moments.release()
            await user.sees("code is fine", gone="searched")
            await user.press("escape")
            await user.sees("5 services", gone="haystack")
            moments.release(100)

    asyncio.run(main())


def test_a_log_is_saved(shop: FakeAgent, tmp_path: Path) -> None:
    async def main() -> None:
        async with in_front_of(shop, (140, 30)) as user:
            await to_failed_run(user)
            for told in ("bytes are in", "already. Save under another name"):
                await user.press("s", "ctrl+u")
                await user.type(f"{tmp_path}")
                await user.press("enter")
                await user.sees(told)
            await user.press("s", "ctrl+u")
            await user.type("~nobody-at-all/x")
            await user.press("enter")
            await user.sees("there is no ~nobody-at-all")

    asyncio.run(main())
    assert (tmp_path / "payment-43-unit_test.log").read_bytes() == shop.logs["payment-43", "unit_test"]


def test_ctrl_c_leaves_what_is_in_front_and_then_the_program(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("H")
            await user.sees("Put gateway on hold?")
            await user.press("x", "ctrl+c")
            await user.sees("5 services", gone="Put gateway on hold?")
            await user.press("slash", "g", "ctrl+c")
            await user.sees("5 services", "inventory", gone="/ g")
            await user.press("question_mark")
            await user.sees("Approve")
            await user.press("ctrl+c")
            await user.sees("5 services", gone="Help")
            assert user.app.return_code is None
            await user.press("ctrl+c")
            assert user.app.return_code == 0

    asyncio.run(main())
    assert posted(shop) == []


def test_what_is_typed_before_a_field_is_there_is_for_the_field(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            user.type_at_once("slash", *"search/")
            await user.sees("/ search/", 'nothing matches "search/"')
            await user.press("backspace", "enter")
            await user.sees("search-9 unit_test", gone="inventory")
            await user.press("l")
            await user.sees("following", "two")
            user.type_at_once("slash", *"qu/x")
            await user.sees("/ qu/x")
            await user.press("escape")
            user.type_at_once("ampersand", *"aqE")
            await user.sees("& aqE")
            await user.press("escape")
            user.type_at_once("3", "s")  # in their order: what is saved is what is shown
            await user.sees("save to search-9-build.log")

    asyncio.run(main())
    assert posted(shop) == []


def posted(agent: FakeAgent) -> list[tuple[str, Any]]:
    return [(path, json.loads(body or b"null")) for method, path, _, body in agent.requests if method == "POST"]


async def approve(user: Driver) -> None:
    await to_approval(user)
    await user.press("tab", "tab", "enter")


async def reject(user: Driver) -> None:
    await user.press("j", "x")
    await user.sees("Reject inventory-19?")
    await user.type("not now")
    await user.press("enter", "tab", "enter")


async def roll_back(user: Driver) -> None:
    await to_rollback_question(user)
    await user.type("inventory")
    await user.press("enter", "tab", "enter")


async def roll_staging_back(user: Driver) -> None:
    await to_rollback(user)
    await user.press("e")
    await user.sees("in staging")
    await user.press("enter")
    await user.sees("Roll staging of inventory back to 9f3c2ab?")
    await user.press("tab", "enter")


async def start(user: Driver) -> None:
    await user.press("r")
    await user.sees("Run the pipeline for gateway")
    await user.type("main2")
    await user.press("tab", "space", "tab", "tab", "tab", "tab", "enter")


async def cancel(user: Driver) -> None:
    await user.press("G", "c")
    await user.sees("Cancel search-9?")
    await user.press("enter", "tab", "enter")


async def rerun_from(user: Driver) -> None:
    await to_failed_run(user)
    await user.press("R")
    await user.sees("From unit_test")
    await user.press("tab", "enter")


async def hold(user: Driver) -> None:
    await user.press("H")
    await user.sees("Put gateway on hold?")
    await user.type("sale")
    await user.press("enter", "tab", "enter")


async def release(user: Driver) -> None:
    await user.press("j", "j", "U")
    await user.sees("duplicate e-mails")
    await user.press("tab", "enter")


async def promote(user: Driver) -> None:
    await user.press("p")
    await user.sees("staging runs     fc010d4")
    await user.press("tab", "enter")


@pytest.mark.parametrize(
    ("act", "path", "body"),
    [
        (approve, "runs/inventory-19/approve", {"release": False, "allow_rewritten": False}),
        (reject, "runs/inventory-19/reject", {"why": "not now"}),
        (
            roll_back,
            "rollbacks",
            {"to": "88a1e02" + "0" * 33, "service": "inventory", "environment": "production"},
        ),
        (
            roll_staging_back,
            "rollbacks",
            {"to": "9f3c2ab" + "0" * 33, "service": "inventory", "environment": "staging"},
        ),
        (
            start,
            "services/gateway/runs",
            {"ref": "main2", "checks": True, "staging": False, "rebuild": False},
        ),
        (cancel, "runs/search-9/cancel", {"why": ""}),
        (rerun_from, "runs/payment-43/rerun", {"from_stage": "unit_test"}),
        (hold, "services/gateway/hold", {"why": "sale"}),
        (release, "services/notification/release", {}),
        (promote, "services/gateway/promote", {"release": False, "allow_rewritten": False}),
    ],
)
def test_actions_are_asked_of_the_agent_and_its_refusal_is_shown(
    shop: FakeAgent, act: Callable[[Driver], Awaitable[None]], path: str, body: dict[str, Any]
) -> None:
    shop.answers["POST", path] = (403, error("forbidden", "ann may not do this", "ask an [admin]"))

    async def main() -> None:
        async with in_front_of(shop) as user:
            await act(user)
            await user.sees("ann may not do this. ask an [admin]")

    asyncio.run(main())
    assert posted(shop) == [(path, body)]


@pytest.mark.parametrize("go", [to_approval, to_rollback_question])
def test_enter_alone_does_nothing_that_cannot_be_undone(
    shop: FakeAgent, go: Callable[[Driver], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await go(user)
            await user.press("enter", "enter", "enter")
            await asyncio.sleep(0.1)

    asyncio.run(main())
    assert posted(shop) == []


def test_what_an_approval_lets_through_is_read_on_in_a_small_terminal(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await to_approval(user)
            screen = await user.sees("pgdn more", "5b2d1f7", gone="Expires")
            rows = screen.split("\n")
            buttons = next(number for number, row in enumerate(rows) if "Reject" in row)
            assert rows[buttons - 2].strip("│ ")  # the text goes down to the row above the buttons
            assert buttons == 24 - 3
            await user.press("pagedown")
            await user.sees("Expires", gone="production today")
            await user.press("k")
            await user.sees("production today", gone="Expires")
            await user.resize(80, 60)
            await user.sees("production today", "Expires", gone="pgdn more")

    asyncio.run(main())


def test_a_production_rollback_needs_the_name_typed_to_the_letter(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop) as user:
            await to_rollback_question(user)
            await user.type("inventor")
            await user.press("enter", "tab", "enter", "tab", "enter")
            await asyncio.sleep(0.1)

    asyncio.run(main())
    assert posted(shop) == []


def test_a_run_that_is_started_is_shown(shop: FakeAgent) -> None:
    shop.runs["gateway-8"] = run("gateway-8", "idle")
    shop.answers["POST", "services/gateway/runs"] = (201, shop.runs["gateway-8"])

    async def main() -> None:
        async with in_front_of(shop) as user:
            await user.press("r")
            await user.sees("Run the pipeline for gateway")
            await user.press("enter", "tab", "enter")
            await user.sees("gateway-8  main")

    asyncio.run(main())


def test_every_action_is_in_the_palette_with_its_key(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop, (100, 50)) as user:
            bound = {
                active.binding.description for active in user.app.screen.active_bindings.values() if active.binding.id
            }
            assert {"Approve", "Roll back", "Hold", "Quit", "Events"} <= bound
            await user.press("ctrl+p")
            await user.sees("Approve  [a]", "Hold  [H]", "Roll back  [b]")
            await user.type("hold")
            await user.sees("Hold  [H]", gone="Approve  [a]")
            await user.press("enter", "enter")
            await user.sees("Put gateway on hold?")

    asyncio.run(main())


def test_settings_last(shop: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "tui.toml"
    file.write_text('# mine\n[keys]\nhold = "ctrl+o"\nfilter = "f5"\n')

    async def main() -> None:
        async with in_front_of(shop, settings=Settings.load(file)) as user:
            await user.press("ctrl+o")
            await user.sees("Put gateway on hold?")
            await user.press("escape", "f5", "g", "f5", "a", "enter")
            await user.sees('"ga" 1 of 5')
            await user.press("enter")
            await user.sees("[runs]", "gateway")
            await user.press("escape")
            user.app.theme = "nord"
            await user.press("j")

    asyncio.run(main())
    assert Settings.load(file).theme == "nord"
    assert file.read_text().startswith("# mine\n")


def test_what_cannot_be_used_of_the_settings_is_told_once_by_name(shop: FakeAgent, tmp_path: Path) -> None:
    file = tmp_path / "tui.toml"
    file.write_text('theme = "nrod"\nmouse = 3\nwarp = true\n[keys]\nhlod = "ctrl+o"\nlog_wrap = "ctrl+w"\n')
    settings = Settings.load(file)
    assert settings.mouse

    async def main() -> None:
        async with in_front_of(shop, (100, 30), settings=settings) as user:
            await user.sees(
                "there is no theme 'nrod'; did you mean nord?",
                "mouse cannot be 3",
                "warp: no such setting; did you mean wrap?",
                "[keys] hlod: no such action; did you mean load or hold?",
            )
            await to_failed_run(user)
            await user.press("ctrl+w")
            await user.sees("long lines are wrapped")

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["folder", "text", "bytes"])
def test_settings_that_cannot_be_read_are_told(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "tui.toml"
    if kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"theme =" if kind == "text" else b"\xff")
    settings = Settings.load(file)
    assert len(settings.problems) == 1
    assert "cannot be used, and the defaults are in force" in settings.problems[0]
    with pytest.raises(ConfigError, match="cannot be written, so this lasts until you quit"):
        settings.keep(theme="nord")
    assert Settings.load(tmp_path / "none.toml").problems == []


def test_a_link_to_the_settings_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept.toml").write_text("wrap = true  # mine\n")
    (tmp_path / "tui.toml").symlink_to("kept.toml")
    Settings.load(tmp_path / "tui.toml").keep(theme="nord")
    assert (tmp_path / "tui.toml").is_symlink()
    assert (tmp_path / "kept.toml").read_text() == 'wrap = true  # mine\ntheme = "nord"\n'


@pytest.mark.parametrize(
    ("written", "keymap", "told"),
    [
        ({"log_wrap": "ctrl+w,W", "help": "?, f1"}, {"log_wrap": "ctrl+w,W", "help": "?, f1"}, []),
        ({"log_wrap": "n", "log_next": "w"}, {"log_wrap": "n", "log_next": "w"}, []),  # exchanged
        ({"log_wrp": "w"}, {}, ["log_wrp: no such action; did you mean log_wrap or"]),
        ({"zzz": "w"}, {}, ["zzz: no such action"]),
        ({"hold": 3}, {}, ["hold: its keys are text, not 3"]),
        ({"hold": ""}, {}, ["hold: '' is no key"]),
        ({"hold": "o+ctrl"}, {}, ["hold: 'o+ctrl' is no key"]),
        ({"hold": "f5,Ctrl+O"}, {}, ["hold: 'Ctrl+O' is no key; did you mean ctrl+o?"]),
        ({"log_wrap": "n"}, {}, ["log_wrap: n is the key of log_next already"]),
        ({"log_wrap": "?"}, {}, ["log_wrap: ? is the key of help already"]),  # of the whole program
        ({"log_wrap": "x"}, {}, ["log_wrap: x is the key of reject already"]),  # of the screen around the log
        ({"hold": "ctrl+o", "release": "ctrl+o"}, {"hold": "ctrl+o"}, ["release: ctrl+o is the key of hold already"]),
        ({"log_wrap": "o"}, {"log_wrap": "o"}, []),  # sorts lists, where there is no log
    ],
)
def test_keys_that_can_be_given_to_actions(written: dict[str, object], keymap: dict[str, str], told: list[str]) -> None:
    found, problems = checked(written, SeamlessApp)
    assert found == keymap
    assert len(problems) == len(told)
    for problem, beginning in zip(problems, told, strict=True):
        assert problem.startswith(beginning)


def test_a_terminal_without_unicode_is_sent_ascii_only(shop: FakeAgent) -> None:
    async def main() -> None:
        async with in_front_of(shop, encoding="ascii") as user:
            await user.sees(f"{ASCII_GLYPHS['failure']} red")
            for go in (to_failed_run, to_evidence):
                await go(user)
                filtered = [
                    segment.text
                    for strip in user.app.screen._compositor.render_strips()
                    for segment in strip.apply_filter(
                        user.app.get_line_filters()[-1], user.app.screen.styles.background
                    )
                ]
                assert "".join(filtered).isascii()
                await user.press("escape", "escape", "g")
                await user.sees("5 services")

    asyncio.run(main())


def test_no_agent_at_all_is_told_with_what_to_do(home: Path) -> None:
    async def main() -> None:
        async with in_front_of(home / "no.sock") as user:
            await user.sees("no agent answers", "seamless agent start")
            await user.press("q")

    asyncio.run(main())


def test_an_agent_of_another_version_whose_answers_do_not_fit_is_no_bug(shop: FakeAgent) -> None:
    fleet: Any = shop.answers["GET", "status"][1]  # type: ignore[index]
    for one in fleet:
        del one["hold"]

    async def main() -> Exception:
        app = App(shop.socket)
        with pytest.raises(WorkerFailed, match="hold") as found:
            async with app.run_test(notifications=True) as pilot:
                await Driver(app, pilot).until(lambda screen: app._exception is not None)
        return explained(found.value, app.agent_version)

    error = asyncio.run(main())
    assert isinstance(error, AgentUnreachableError)
    assert f"the agent is version 0 and this command version {__version__}" in str(error)
    assert isinstance(explained(KeyError("hold"), __version__), KeyError)
