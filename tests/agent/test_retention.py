"""What has been kept long enough: never what somebody still stands on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from agent.storing import add_image, new_run, with_store
from seamless.agent.store import Store
from seamless.model import Environment, Run, StageName, utc_now
from seamless.transitions import DeploymentEvent, RunEvent, StageEvent

LATER = utc_now() + timedelta(days=1)


async def ended_run(store: Store, service: str = "web") -> Run:
    run = await store.runs.create(new_run(service, (StageName.BUILD,)))
    run = await store.runs.transition(run, RunEvent.START)
    run = await store.runs.transition(run, RunEvent.FAIL, reason="no")
    await store.runs.mark_cleaned(run.id)
    return run


async def deploy(store: Store, run: Run, image: int, event: DeploymentEvent) -> None:
    found = await store.images.get(image)
    assert found is not None
    deployment = await store.deployments.record(run, Environment.PRODUCTION, found)
    deployment = await store.deployments.transition(deployment, DeploymentEvent.SUBMIT)
    await store.deployments.transition(deployment, event)


def test_images_beyond_the_newest_go_and_what_is_needed_stays(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        runs = [await ended_run(store) for _ in range(9)]
        images = [await add_image(store, run) for run in runs]
        old = store.retention.old_images
        assert [image.id for image in await old("web", 2)] == [image.id for image in images[:7]]

        await deploy(store, runs[0], images[0].id, DeploymentEvent.COMPLETE)  # too long ago for anybody
        await deploy(store, runs[1], images[1].id, DeploymentEvent.COMPLETE)  # what ran before
        await deploy(store, runs[2], images[2].id, DeploymentEvent.COMPLETE)  # what runs
        await deploy(store, runs[3], images[3].id, DeploymentEvent.LOSE_SIGHT)
        waiting = await store.runs.create(new_run("web", (StageName.BUILD,)))
        (stage,) = waiting.stages
        await store.runs.transition_stage(waiting, stage, StageEvent.REUSE, detail={"image": images[4].id})
        assert [image.id for image in await old("web", 2)] == [images[0].id, images[5].id, images[6].id]
        assert await old("other", 2) == []

        assert await store.retention.take_images([images[5]], 2)
        assert not await store.retention.take_images([images[2]], 2), "what production runs was taken"
        assert not await store.retention.take_images([images[5]], 2), "taken twice"
        found = await store.images.get(images[5].id)
        assert found is not None
        assert found.gone_at is not None

    with_store(tmp_path / "s.db", body)


def test_what_was_taken_is_removed_by_the_next_agent(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        images = [await add_image(store, await ended_run(store)) for _ in range(3)]
        retention = store.retention
        assert await retention.take_images(images[:2], 1)
        assert await retention.old_images("web", 1) == []
        assert [image.id for image in await retention.leaving_images()] == [images[0].id, images[1].id]
        assert await retention.runs_before(LATER, 1) == [], "nobody would know what is left to remove"
        await retention.let_go(images[:1])
        assert [image.id for image in await retention.leaving_images()] == [images[1].id]
        assert await retention.runs_before(LATER, 1) == [images[0].run]

    with_store(tmp_path / "s.db", body)


def test_what_a_registry_does_not_delete_is_told_once_and_is_there(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        runs = [await ended_run(store) for _ in range(3)]
        images = [await add_image(store, run) for run in runs]
        retention = store.retention
        assert await retention.take_images(images[:1], 1)
        await retention.keep_refused(images[:1], "HTTP 405")
        assert await retention.leaving_images() == []
        assert [image.id for image in await retention.old_images("web", 1)] == [images[1].id], "tried for ever"
        assert [image.id for image in await retention.old_images("web", 1, refused=True)] == [
            images[0].id,
            images[1].id,
        ]
        found = await store.images.get(images[0].id)
        assert found is not None
        assert found.gone_at is None
        assert [(event.name, event.reason) for event in await store.events.page(run=runs[0].id)][-1] == (
            "image kept",
            "HTTP 405",
        )
        assert await retention.runs_before(LATER, 1) == [runs[0].id], "its run is kept for ever"
        rollback = await ended_run(store)
        await deploy(store, rollback, images[0].id, DeploymentEvent.COMPLETE)
        assert runs[0].id not in await retention.runs_before(LATER, 1), "production runs what it built"

    with_store(tmp_path / "s.db", body)


def test_an_image_of_an_untrusted_run_goes_when_nothing_runs_it(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        run = await store.runs.create(new_run("web", (StageName.BUILD,)))
        image = await add_image(store, run, trusted=False)
        trusted = await add_image(store, await ended_run(store))
        old = store.retention.old_images
        assert await old("web", 1) == [], "its run goes on"
        run = await store.runs.transition(run, RunEvent.START)
        run = await store.runs.transition(run, RunEvent.SUCCEED)
        assert await old("web", 1) == [], "its run may still be cleaned up after"
        await store.runs.mark_cleaned(run.id)
        assert [one.id for one in await old("web", 1)] == [image.id]
        assert [one.id for one in await old("web", 5)] == [image.id], "counted among those that are kept"

        for staged in (image, trusted, trusted):
            assert await old("web", 1) == [] or staged is image
            on_staging = await store.deployments.record(await ended_run(store), Environment.STAGING, staged)
            on_staging = await store.deployments.transition(on_staging, DeploymentEvent.SUBMIT)
            await store.deployments.transition(on_staging, DeploymentEvent.COMPLETE)
        assert [one.id for one in await old("web", 1)] == [image.id]

    with_store(tmp_path / "s.db", body)


def test_what_a_hold_names_stays(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        images = [await add_image(store, await ended_run(store)) for _ in range(3)]
        assert len(await store.retention.old_images("web", 1)) == 2
        await store.deployments.set_hold("web", why="e-mails twice", by="dana", commit=images[0].commit)
        assert await store.retention.old_images("web", 1) == []

    with_store(tmp_path / "s.db", body)


def test_old_runs_go_with_their_history_and_not_what_people_did(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        runs = [await ended_run(store) for _ in range(6)]
        image = await add_image(store, runs[1])
        await deploy(store, runs[2], image.id, DeploymentEvent.COMPLETE)
        active = await store.runs.create(new_run())
        await store.events.add("action", "cancel", service="web", run=runs[0].id, actor="dana")
        before = store.retention.runs_before
        assert await before(utc_now() - timedelta(days=1), 1) == []
        assert await before(LATER, 100) == []
        assert await before(LATER, 2) == [runs[0].id, runs[3].id, runs[4].id]
        assert active.id not in await before(LATER, 1)

        assert not await store.retention.forget_run(runs[2].id, LATER, 2), "the run of what production runs"
        assert await store.retention.forget_run(runs[0].id, LATER, 2)
        assert not await store.retention.forget_run(runs[0].id, LATER, 2)
        assert [event.kind for event in await store.events.page(run=runs[0].id)] == ["action"]
        assert runs[0].id not in [run.id for run in await store.runs.newest(service="web", limit=100)]
        assert (await store.runs.create(new_run())).number == active.number + 1
        assert await store.retention.has_ended_before(runs[0].id, utc_now()), "nobody knows it any more"
        assert await store.retention.has_ended_before(runs[3].id, LATER)
        assert not await store.retention.has_ended_before(runs[2].id, LATER), "its log tells how production came to be"
        assert not await store.retention.has_ended_before(active.id, LATER)

    with_store(tmp_path / "s.db", body)


def test_caches_go_with_the_last_run_of_their_service(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        run = await ended_run(store)
        await store.workspaces.set_cache_layers("web", "/root/.npm", ["a", "b"], run=run.id)
        await store.workspaces.set_cache_layers("gone", "/root/.npm", ["c"], run="gone-1")
        unused = store.retention.unused_caches
        assert await unused(utc_now() - timedelta(days=1)) == [("gone", "/root/.npm", ["c"])]
        assert ("web", "/root/.npm", ["a", "b"]) in await unused(LATER)
        await store.runs.create(new_run())
        assert not await store.retention.forget_cache("web", "/root/.npm", LATER), "a run that goes on reads it"
        assert await store.retention.forget_cache("gone", "/root/.npm", LATER)

    with_store(tmp_path / "s.db", body)
