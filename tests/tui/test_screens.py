"""What each screen shows at three sizes, and what its keys do."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from textual.worker import WorkerFailed

from cli.fake_agent import FakeAgent
from seamless import __version__
from seamless.errors import AgentUnreachableError
from seamless.logtext import ASCII_GLYPHS
from seamless.tui.program import explained

from .screens import SIZES, App, Driver, at, golden, in_front_of
from .ways import (
    to_approval,
    to_deployments,
    to_evidence,
    to_failed_run,
    to_fleet,
    to_help,
    to_images,
    to_rollback,
    to_rollback_question,
    to_running_run,
    to_service,
)

pytestmark = pytest.mark.fake

UPDATE = bool(os.environ.get("SEAMLESS_GOLDENS"))


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
