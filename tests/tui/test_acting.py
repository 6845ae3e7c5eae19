"""What is asked of the agent by a key, and what is asked of the user before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cli.fake_agent import FakeAgent, error, run

from .screens import App, Driver, in_front_of, posted
from .ways import (
    to_approval,
    to_failed_run,
    to_rollback,
    to_rollback_question,
)

pytestmark = pytest.mark.fake


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


def test_a_shell_is_refused_on_the_screen_where_nothing_failed(
    shop: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(App, "run_command", lambda _, *arguments: commands.append(arguments))
    skipped = next(stage for stage in shop.runs["payment-43"]["stages"] if stage["name"] == "code_quality")
    skipped["state"] = "skipped"

    async def main() -> None:
        async with in_front_of(shop, (140, 30)) as user:
            await user.press("G", "S")
            await user.sees("no command of search-9 failed, and a shell opens where one did")
            await user.press("k", "l")
            await user.sees("FAIL declines", "% of")
            await user.press("2", "S")
            await user.sees("code_quality of payment-43 is skipped: there is no workspace", "into. unit_test failed")
            await user.press("5", "S")
            await user.sees("integration_test runs no commands: there is no workspace")
            assert not commands
            await user.press("3", "S")
            await user.until(lambda _: len(commands) == 1)
            await user.press("1", "S")  # what passed can be looked into as well
            await user.until(lambda _: len(commands) == 2)

    asyncio.run(main())
    assert commands == [("shell", "payment-43", "unit_test"), ("shell", "payment-43", "prepare")]


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
