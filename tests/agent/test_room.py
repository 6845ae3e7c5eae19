"""Room for new work: seen before it has run out, told, and taken up again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.storing import with_store
from seamless.agent.room import Room
from seamless.agent.store import Store
from seamless.errors import StorageError


def test_too_little_room_is_told_with_the_place_and_refuses(tmp_path: Path) -> None:
    Room({"the data directory": tmp_path}, lambda: 1).require()
    Room({"the data directory": tmp_path}, lambda: 0).require()
    full = Room({"the data directory": tmp_path}, lambda: 2**60)
    with pytest.raises(StorageError) as refused:
        full.require()
    assert str(tmp_path) in refused.value.message
    assert "free, less than" in refused.value.message
    assert "min_free" in (refused.value.hint or "")


def test_a_place_that_cannot_be_looked_at_is_no_reason(tmp_path: Path) -> None:
    assert Room({"the Docker Engine": tmp_path / "elsewhere"}, lambda: 2**60).shortage() is None


def test_files_run_out_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[7] = 10  # f_favail
    fields[5] = 1_000_000  # f_files
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert Room({"the data directory": tmp_path}, lambda: 1).shortage() == (
        f"the data directory ({tmp_path}) can hold 10 more files only"
    )


def test_beginning_and_end_are_in_the_history_and_wake_who_waits(tmp_path: Path) -> None:
    async def body(store: Store) -> list[str]:
        least = 2**60
        roomy = asyncio.Event()
        watching = asyncio.create_task(Room({"the data directory": tmp_path}, lambda: least).watch(store, roomy.set))
        await asyncio.wait_for(store.events.newest.beyond(0), 60)
        assert not roomy.is_set()
        least = 1
        await asyncio.wait_for(roomy.wait(), 60)
        await asyncio.wait_for(store.events.newest.beyond(1), 60)
        watching.cancel()
        return [f"{event.kind} {event.name}" for event in await store.events.page()]

    assert with_store(tmp_path / "seamless.db", body) == ["agent no_room", "agent room"]


def test_a_shortage_that_was_over_before_the_next_look_wakes_whom_it_stopped(tmp_path: Path) -> None:
    async def body(store: Store) -> list[str]:
        least = 1
        roomy = asyncio.Event()
        room = Room({"the data directory": tmp_path}, lambda: least)
        watching = asyncio.create_task(room.watch(store, roomy.set))
        await asyncio.sleep(0)  # the first look has been taken
        least = 2**60
        assert room.shortage() is not None
        least = 1
        await asyncio.wait_for(roomy.wait(), 60)
        await asyncio.wait_for(store.events.newest.beyond(1), 60)
        watching.cancel()
        return [event.name for event in await store.events.page()]

    assert with_store(tmp_path / "seamless.db", body) == ["no_room", "room"]
