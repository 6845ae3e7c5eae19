"""The screen of events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cli.fake_agent import FakeAgent

from .screens import at, in_front_of
from .ways import to_events

pytestmark = pytest.mark.fake


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
