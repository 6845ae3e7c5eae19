"""The store on a real SQLite file: transitions and their events, all or nothing, and never twice."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from agent.storing import COMMIT, add_image, new_run, with_store
from harness.history import assert_history_replays
from seamless.agent.store import DeployLockedError, StaleStateError, Store
from seamless.errors import NotFoundError
from seamless.model import (
    Approval,
    CancelRequest,
    Clock,
    Environment,
    Run,
    RunOptions,
    StageName,
    utc_now,
)
from seamless.transitions import (
    DeploymentEvent,
    DeploymentState,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    UnknownTransitionError,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seamless.db"


class _BreakError(Exception):
    """Stands for whatever breaks off a transaction."""


# -- runs and stages


def test_a_run_is_stored_whole_and_read_back_the_same(path: Path) -> None:
    async def write(store: Store) -> Run:
        run = await store.runs.create(dataclasses.replace(new_run(), base="b" * 40, rerun_of="web-0"))
        await store.runs.set_approval(run.id, Approval("auto_deploy is off", utc_now().replace(microsecond=0), None))
        await store.runs.set_clock(run.id, Clock("boot", 1.5, 2.5))
        await store.runs.request_cancel(run, CancelRequest(RunEvent.CANCEL, "enough", "ada"))
        return await store.runs.get(run.id)

    written = with_store(path, write)
    assert with_store(path, lambda store: store.runs.get("web-1")) == written
    assert (written.id, written.state, written.base) == ("web-1", RunState.IDLE, "b" * 40)
    assert [stage.name for stage in written.stages] == list(StageName)
    assert written.options == RunOptions(on_branch=True)
    assert written.cancel == CancelRequest(RunEvent.CANCEL, "enough", "ada")
    assert_history_replays(path)


def test_numbers_count_per_service_and_are_never_used_again(path: Path) -> None:
    async def body(store: Store) -> list[str]:
        names = [(await store.runs.create(new_run(service))).id for service in ("web", "pay", "web")]

        async def break_off() -> None:
            async with store.transaction():
                await store.runs.create(new_run("web"))
                raise _BreakError

        with pytest.raises(_BreakError):
            await break_off()
        return [*names, (await store.runs.create(new_run("web"))).id]

    assert with_store(path, body) == ["web-1", "pay-1", "web-2", "web-3"]
    assert with_store(path, lambda store: store.runs.create(new_run("web"))) == with_store(
        path, lambda store: store.runs.get("web-4")
    )


def test_of_two_that_move_the_same_state_one_wins(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        results = await asyncio.gather(
            *(store.runs.transition(run, event) for event in [RunEvent.START, RunEvent.CANCEL] * 20),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, Run)]
        lost = [result for result in results if isinstance(result, StaleStateError)]
        assert (len(won), len(lost)) == (1, 39)
        assert (await store.runs.get(run.id)).state is won[0].state
        assert len(await store.events.page(kind="run")) == 2  # create, and the one that won
        with pytest.raises(StaleStateError, match="web-1 is no longer idle"):
            await store.runs.transition(run, RunEvent.START)

    with_store(path, body)
    assert_history_replays(path)


def test_a_stage_is_compared_by_state_and_attempt(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        idle = run.stages[0]
        first = await store.runs.transition_stage(run, idle, StageEvent.START)
        await store.runs.transition_stage(run, first, StageEvent.RETRY, reason="exit code 1", exit_code=1)
        again = (await store.runs.get(run.id)).stages[0]
        with pytest.raises(StaleStateError):  # idle as well, but of another attempt
            await store.runs.transition_stage(run, idle, StageEvent.START)
        second = await store.runs.transition_stage(run, again, StageEvent.START)
        assert (first.attempt, second.attempt) == (1, 2)
        with pytest.raises(StaleStateError):
            await store.runs.transition_stage(run, first, StageEvent.SUCCEED)

    with_store(path, body)
    assert_history_replays(path)


def test_a_pair_that_the_table_does_not_have_changes_nothing(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        with pytest.raises(UnknownTransitionError):
            await store.runs.transition(run, RunEvent.APPROVE)
        with pytest.raises(UnknownTransitionError):
            await store.runs.transition_stage(run, run.stages[0], StageEvent.SUCCEED)
        assert await store.runs.get(run.id) == run
        assert len(await store.events.page()) == 1

    with_store(path, body)


def test_a_new_attempt_forgets_the_journal_and_an_interruption_counts_itself(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        stage = await store.runs.transition_stage(run, run.stages[0], StageEvent.START)
        await store.runs.record_journal(run.id, stage.name, stage.attempt, {"started": True})
        await store.runs.record_journal(run.id, stage.name, stage.attempt, {"more": [1]})
        await store.runs.record_journal(run.id, stage.name, stage.attempt + 1, {"never": True})
        stage = (await store.runs.get(run.id)).stages[0]
        assert stage.journal == {"started": True, "more": [1]}
        stage = await store.runs.transition_stage(run, stage, StageEvent.INTERRUPT, reason="its container is gone")
        assert (stage.state, stage.attempt, stage.interruptions) == (StageState.IDLE, 1, 1)
        stage = await store.runs.transition_stage(run, stage, StageEvent.START)
        assert (stage.journal, stage.attempt, stage.interruptions, stage.reason) == ({}, 2, 1, None)
        assert stage.ended_at is None

    with_store(path, body)


def test_journals_and_details_keep_every_null_that_is_nested(path: Path) -> None:
    async def body(store: Store) -> None:
        plan = {"plan": {"old": None, "steps": [None, {"deep": None}]}, "done": 1}
        run = await store.runs.create(new_run())
        stage = await store.runs.transition_stage(run, run.stages[0], StageEvent.START)
        await store.runs.record_journal(run.id, stage.name, stage.attempt, plan)
        await store.runs.record_journal(run.id, stage.name, stage.attempt, {"done": None})
        stage = (await store.runs.get(run.id)).stages[0]
        assert stage.journal == {"plan": plan["plan"]}
        stage = await store.runs.transition_stage(run, stage, StageEvent.RETRY, detail=plan)
        assert (await store.runs.get(run.id)).stages[0].detail == plan
        one = await store.deployments.record(run, Environment.STAGING, await add_image(store, run))
        await store.deployments.record_journal(one.id, plan)
        await store.deployments.record_journal(one.id, {"done": None, "more": 2})
        assert (await store.deployments.get(one.id)).journal == {"plan": plan["plan"], "more": 2}
        one = await store.deployments.transition(one, DeploymentEvent.SUBMIT, detail=plan)
        one = await store.deployments.transition(one, DeploymentEvent.COMPLETE, detail={"gap_s": 0.5})
        assert one.detail == {**plan, "gap_s": 0.5}

    with_store(path, body)


def test_a_cancellation_is_recorded_once_and_only_of_what_goes_on(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        asked = [CancelRequest(RunEvent.CANCEL, f"why {number}", "ada") for number in range(5)]
        answers = await asyncio.gather(*(store.runs.request_cancel(run, request) for request in asked))
        assert sorted(answers) == [False] * 4 + [True]
        run = await store.runs.get(run.id)
        await store.runs.transition(run, RunEvent.CANCEL)
        other = await store.runs.create(new_run())
        await store.runs.transition(other, RunEvent.CANCEL)
        assert not await store.runs.request_cancel(other, asked[0])
        assert [event.reason for event in await store.events.page(kind="action")] == [run.cancel and run.cancel.why]

    with_store(path, body)


def test_listings_are_newest_first_in_pages(path: Path) -> None:
    async def body(store: Store) -> None:
        for service in ["web", "pay", "web", "web"]:
            await store.runs.create(new_run(service))
        first = await store.runs.newest(service="web", limit=2)
        assert [run.id for run in first] == ["web-3", "web-2"]
        assert [run.id for run in await store.runs.newest(service="web", before=first[-1])] == ["web-1"]
        await store.runs.transition(first[0], RunEvent.START)
        assert [run.id for run in await store.runs.newest(states=[RunState.IN_PROGRESS])] == ["web-3"]
        assert [run.id for run in await store.runs.active()] == ["web-1", "pay-1", "web-2", "web-3"]
        with pytest.raises(NotFoundError, match="there is no run web-9"):
            await store.runs.get("web-9")

    with_store(path, body)


# -- transactions and events


def test_state_and_event_are_stored_together_or_not_at_all(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())

        async def break_off() -> None:
            async with store.transaction():
                await store.runs.transition(run, RunEvent.START)
                await store.runs.transition_stage(run, run.stages[0], StageEvent.START)
                assert len(await store.events.page()) == 3
                raise _BreakError

        with pytest.raises(_BreakError):
            await break_off()
        assert await store.runs.get(run.id) == run
        assert [event.name for event in await store.events.page()] == ["create"]
        assert store.events.newest.value == 1

    with_store(path, body)
    assert_history_replays(path)


def test_a_reader_never_sees_half_of_a_transaction(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        seen: list[tuple[RunState, StageState]] = []

        async def read() -> None:
            for _ in range(30):
                now = await store.runs.get(run.id)
                seen.append((now.state, now.stages[0].state))

        async def write() -> None:
            async with store.transaction():
                await store.runs.transition(run, RunEvent.START)
                await asyncio.sleep(0.01)
                await store.runs.transition_stage(run, run.stages[0], StageEvent.START)

        await asyncio.gather(read(), write(), read())
        assert set(seen) <= {
            (RunState.IDLE, StageState.IDLE),
            (RunState.IN_PROGRESS, StageState.IN_PROGRESS),
        }

    with_store(path, body)


def test_events_have_ids_in_commit_order_and_wake_who_waits(path: Path) -> None:
    async def body(store: Store) -> None:
        heard: list[int] = []

        async def listen() -> None:
            while len(heard) < 20:
                await store.events.newest.beyond(heard[-1] if heard else 0)
                heard.extend(event.id for event in await store.events.page(after=heard[-1] if heard else 0))

        listener = asyncio.create_task(listen())
        await asyncio.gather(*(store.runs.create(new_run()) for _ in range(20)))
        await asyncio.wait_for(listener, 60)
        assert heard == list(range(1, 21))

    with_store(path, body)

    async def reopened(store: Store) -> int:
        return store.events.newest.value

    assert with_store(path, reopened) == 20


def test_history_is_paged_from_either_end(path: Path) -> None:
    async def body(store: Store) -> None:
        for service in ("web", "mail", "web", "web"):
            await store.events.add("action", "hold", service=service)
        page = store.events.page
        assert [event.id for event in await page(after=1, limit=2)] == [2, 3]
        assert [event.id for event in await page(before=4, limit=2)] == [3, 2]
        assert [event.id for event in await page(after=1, before=4, service="web")] == [3]
        assert await page(kind="run") == []

    with_store(path, body)


def test_a_task_that_is_cancelled_while_it_commits_still_tells_of_what_was_stored(path: Path) -> None:
    """The event is in the history; who follows the history must hear of it without waiting for another."""

    async def body(store: Store) -> None:
        async def write() -> None:
            async with store.transaction():
                await store.runs.create(new_run())
                task = asyncio.current_task()
                assert task is not None
                task.cancel()  # it reaches the next thing that is waited for: the commit

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(write())
        assert [event.id for event in await store.events.page()] == [1]
        assert store.events.newest.value == 1

    with_store(path, body)


# -- deployments, holds, images


def test_one_deployment_at_a_time_for_a_service_and_environment(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        other = await store.runs.create(new_run())
        image = await add_image(store, run)
        first = await store.deployments.record(run, Environment.STAGING, image)
        with pytest.raises(DeployLockedError):
            await store.deployments.record(other, Environment.STAGING, image)
        await store.deployments.record(run, Environment.PRODUCTION, image)
        first = await store.deployments.transition(first, DeploymentEvent.SUBMIT)
        with pytest.raises(DeployLockedError):
            await store.deployments.record(other, Environment.STAGING, image)
        assert await store.deployments.locked("web", Environment.STAGING) == first
        await store.deployments.transition(first, DeploymentEvent.LOSE_SIGHT)
        second = await store.deployments.record(other, Environment.STAGING, image)
        assert second.id > first.id
        with pytest.raises(StaleStateError):
            await store.deployments.transition(first, DeploymentEvent.COMPLETE)

    with_store(path, body)
    assert_history_replays(path)


def test_what_runs_somewhere_is_the_last_deployment_that_succeeded(path: Path) -> None:
    async def body(store: Store) -> None:
        ended: dict[int, DeploymentState] = {}
        for event in (
            DeploymentEvent.COMPLETE,
            DeploymentEvent.ROLL_BACK,
            DeploymentEvent.COMPLETE,
            DeploymentEvent.FAIL,
        ):
            run = await store.runs.create(new_run())
            one = await store.deployments.record(run, Environment.PRODUCTION, await add_image(store, run))
            one = await store.deployments.transition(one, DeploymentEvent.SUBMIT)
            ended[one.id] = (await store.deployments.transition(one, event)).state
        current = await store.deployments.current("web", Environment.PRODUCTION)
        newest = await store.deployments.newest("web", Environment.PRODUCTION)
        assert current is not None
        assert newest is not None
        assert (current.run, newest.run) == ("web-3", "web-4")
        assert list(ended.values()) == ["success", "rolled_back", "success", "failure"]
        assert await store.deployments.current("web", Environment.STAGING) is None

    with_store(path, body)
    assert_history_replays(path)


def test_a_hold_keeps_its_beginning_and_is_ended_once(path: Path) -> None:
    async def body(store: Store) -> None:
        first = await store.deployments.set_hold("web", why="rolled back", by="ada", commit=COMMIT)
        await store.deployments.release_with("web", "web-7")
        second = await store.deployments.set_hold("web", why="still broken", by="eve", commit=None)
        assert (second.since, second.commit, second.why, second.by) == (first.since, COMMIT, "still broken", "eve")
        assert second.released_by_run is None
        ended = await asyncio.gather(*(store.deployments.end_hold("web", by="ada") for _ in range(5)))
        assert sorted(ended) == [False] * 4 + [True]
        actions = [event.name for event in await store.events.page(kind="action")]
        assert actions == ["hold", "hold", "release"]

    with_store(path, body)


def test_an_image_is_recorded_once_for_a_run_and_reusable_by_commit_and_key(path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run())
        image = await add_image(store, run)
        assert await add_image(store, run) == image
        assert not image.deployable
        await store.images.pass_checks(image.id)
        known = await store.images.reusable("web", COMMIT, "key")
        assert known is not None
        assert (known.id, known.deployable) == (image.id, True)
        assert await store.images.reusable("web", COMMIT, "another key") is None
        assert [found.id for found in await store.images.by_commit("aaaa")] == [image.id]
        await store.images.mark_gone(image.id)
        assert await store.images.reusable("web", COMMIT, "key") is None
        assert await store.images.newest_trusted("web") is None

    with_store(path, body)
