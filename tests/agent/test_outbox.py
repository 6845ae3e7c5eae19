"""The outbox: what is added with an event is delivered, in its topic's order, however often the far end fails."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.storing import new_run, with_store
from seamless.agent.outbox import Courier, NotYetError, Sender, UndeliverableError, wait_s
from seamless.agent.store import Message, Outcome, Store
from seamless.errors import UnavailableError
from seamless.model import Event

T = TypeVar("T")
_WITHIN_S = 60.0


class FarEnd:
    """Notes what it is sent; raises the next of `errors` first. `reached` is set by each message."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.took: list[str] = []
        self.tried: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.tried.append(message.key)
        self.reached.set()
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.took.append(message.key)


@contextlib.asynccontextmanager
async def delivering(store: Store, **senders: Sender) -> AsyncIterator[None]:
    task = asyncio.create_task(Courier(store, senders).deliver())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds, once that is something."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.01)


async def until_ended(store: Store, channel: str, key: str) -> Message:
    async def ended() -> Message | None:
        message = await store.outbox.find(channel, key)
        return message if message is not None and message.outcome is not None else None

    return await until(ended)


def play(path: Path, body: Callable[[Store], Awaitable[None]]) -> None:
    with_store(path / "seamless.db", body)


def test_a_message_is_stored_with_its_event_or_not_at_all(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        async def tell(event: Event) -> None:
            await store.outbox.add("far", f"event-{event.id}", {"name": event.name, "run": event.run})

        store.events.listeners.append(tell)
        await store.runs.create(new_run())
        stored = await store.outbox.find("far", "event-1")
        assert stored is not None
        assert stored.body == {"name": "create", "run": "web-1"}
        with contextlib.suppress(ZeroDivisionError):
            async with store.transaction():
                await store.runs.create(new_run())
                assert await store.outbox.find("far", "event-2") is not None
                raise ZeroDivisionError
        assert await store.outbox.find("far", "event-2") is None

    play(tmp_path, body)


def test_a_failure_waits_and_is_shown_until_it_is_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless.agent.outbox._FIRST_WAIT_S", 0.01)

    async def body(store: Store) -> None:
        far = FarEnd(UnavailableError("it is down"), RuntimeError("a bug"), NotYetError("soon"))
        far.open.clear()
        await store.outbox.add("far", "a", {}, service="web")
        assert not await store.outbox.add("far", "a", {"other": 1})  # the first is the one
        async with delivering(store, far=far):
            await asyncio.wait_for(far.reached.wait(), _WITHIN_S)
            assert await store.outbox.problem("web") is None
            far.open.set()
            message = await until_ended(store, "far", "a")
        assert (message.outcome, message.attempts, far.tried) == (Outcome.DELIVERED, 4, ["a"] * 4)
        assert await store.outbox.problem("web") is None

    play(tmp_path, body)


def test_a_problem_is_the_services_and_others_go_on(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        async def far(message: Message) -> None:
            if message.service == "ill":
                raise UnavailableError("the token has expired")

        await store.outbox.add("far", "a", {}, service="ill")
        await store.outbox.add("far", "b", {}, service="well")
        async with delivering(store, far=far):
            assert (await until_ended(store, "far", "b")).outcome is Outcome.DELIVERED
            assert await until(lambda: store.outbox.problem("ill")) == "the token has expired"
        assert await store.outbox.problem("well") is None

    play(tmp_path, body)


def test_one_topic_goes_in_order_and_the_newest_replaces_what_waits(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        far = FarEnd()
        far.open.clear()
        for key in ("1", "2"):
            await store.outbox.add("far", key, {}, topic="commit", replaces=True)
        await store.outbox.add("far", "other", {})
        async with delivering(store, far=far):
            await asyncio.wait_for(far.reached.wait(), _WITHIN_S)
            far.reached.clear()
            await store.outbox.add("far", "3", {}, topic="commit", replaces=True)  # while 2 is on its way
            await store.outbox.add("far", "4", {}, topic="commit")
            far.open.set()
            await until_ended(store, "far", "4")
            await until_ended(store, "far", "other")
        assert [key for key in far.tried if key != "other"] == ["2", "3", "4"]
        assert [getattr(await store.outbox.find("far", key), "outcome", None) for key in "1234"] == [
            Outcome.REPLACED,
            Outcome.REPLACED,
            Outcome.DELIVERED,
            Outcome.DELIVERED,
        ]

    play(tmp_path, body)


def test_what_is_never_taken_is_given_up_and_told(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        far = FarEnd(UndeliverableError("no such commit"))
        await store.outbox.add("far", "a", {}, service="web", topic="t")
        await store.outbox.add("far", "b", {}, topic="t")
        async with delivering(store, far=far):
            assert (await until_ended(store, "far", "a")).problem == "no such commit"
            assert (await until_ended(store, "far", "b")).outcome is Outcome.DELIVERED
        (event,) = await store.events.page(kind="message")
        assert (event.name, event.service, event.reason) == ("give_up", "web", "no such commit")

    play(tmp_path, body)


def test_a_message_outlives_the_agent_and_a_clock_that_was_set_back(tmp_path: Path) -> None:
    async def killed(store: Store) -> None:
        far = FarEnd()
        far.open.clear()
        await store.outbox.add("far", "a", {"x": [1, None]})
        async with delivering(store, far=far):
            await asyncio.wait_for(far.reached.wait(), _WITHIN_S)

    play(tmp_path, killed)
    connection = sqlite3.connect(tmp_path / "seamless.db")
    connection.execute("UPDATE outbox SET next_try_at = '2999-01-01T00:00:00.000Z'")
    connection.commit()
    connection.close()

    async def again(store: Store) -> None:
        far = FarEnd()
        async with delivering(store, far=far):
            message = await until_ended(store, "far", "a")
        assert (message.body, far.took) == ({"x": [1, None]}, ["a"])

    play(tmp_path, again)


def test_what_waits_long_can_be_hurried(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        async def attempted() -> bool:
            message = await store.outbox.find("far", "a")
            return message is not None and message.attempts == 1

        far = FarEnd(NotYetError("no review yet", retry_after_s=3000))
        await store.outbox.add("far", "a", {}, topic="t")
        async with delivering(store, far=far):
            await asyncio.wait_for(far.reached.wait(), _WITHIN_S)
            await until(attempted)
            await store.outbox.hurry("far", "another topic")
            await asyncio.sleep(0)
            assert far.tried == ["a"]
            await store.outbox.hurry("far", "t")
            assert (await until_ended(store, "far", "a")).outcome is Outcome.DELIVERED

    play(tmp_path, body)


def test_what_is_hurried_while_it_is_tried_is_tried_again_at_once(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        far = FarEnd(NotYetError("no review yet", retry_after_s=3000))
        far.open.clear()
        await store.outbox.add("far", "a", {}, topic="t")
        async with delivering(store, far=far):
            await asyncio.wait_for(far.reached.wait(), _WITHIN_S)
            await asyncio.sleep(0.002)  # times are stored in milliseconds
            await store.outbox.hurry("far", "t")
            far.open.set()
            assert (await until_ended(store, "far", "a")).outcome is Outcome.DELIVERED
        assert far.tried == ["a", "a"]

    play(tmp_path, body)


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 1e6)), st.floats(0, 1))
def test_waits_grow_and_respect_what_the_far_end_asks_for(attempts: int, asked_s: float | None, chance: float) -> None:
    waited_s = wait_s(attempts, NotYetError("later", retry_after_s=asked_s), chance)
    assert 1.8 <= waited_s <= 3600
    assert waited_s >= min(asked_s or 0, 3600)
    if not asked_s:
        assert waited_s <= 330
        assert waited_s >= 0.9 * min(2.0 ** min(attempts, 20), 300)
