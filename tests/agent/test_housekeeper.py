"""What the housekeeper tells of what it could not remove."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from seamless.agent import housekeeping
from seamless.agent.housekeeping import Housekeeper
from seamless.agent.housekeeping.garbage import Garbage
from seamless.agent.resources import Resources
from seamless.errors import RefusedError
from seamless.model import Actor


def test_what_stays_for_the_same_reason_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An image that a container of somebody else uses, for example, stays as long as that runs."""
    why: list[str | None] = ["used by db"]

    async def remove() -> bool:
        if why[0] is not None:
            raise RefusedError(why[0])
        return False

    async def find(*_: Any) -> AsyncIterator[Garbage]:
        yield Garbage("image", "web@1", "older than the 2 that are kept", None, remove)

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(housekeeping, "_FINDERS", (find,))
    monkeypatch.setattr(housekeeping, "pack_logs", nothing)
    housekeeper = Housekeeper(cast(Resources, SimpleNamespace()))

    def turn(reason: str | None, *, dry_run: bool = False, actor: Actor | None = None) -> list[str]:
        why[0] = reason
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            kept = [one.kept for one in asyncio.run(housekeeper.collect(dry_run=dry_run, actor=actor))]
        assert actor is None or kept == [reason], "who asks is told each time"
        return [record.getMessage() for record in caplog.records]

    assert turn("used by db") == ["image web@1 could not be removed: used by db"]
    assert turn("used by db") == []
    turn(None, dry_run=True)
    assert turn("used by db", actor=Actor("ann", 1000)) == []
    assert turn("used by web") == ["image web@1 could not be removed: used by web"]
    assert turn(None) == []
    assert turn("used by web") == ["image web@1 could not be removed: used by web"]
