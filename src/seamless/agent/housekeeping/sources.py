"""What runs are made of: checkouts, the mirrors that those come from, caches, and the workspaces of failed runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from seamless.agent.housekeeping.garbage import Garbage, Turn, size_of
from seamless.agent.resources import Resources
from seamless.config import Parameters
from seamless.forges import StoredMirror


async def workspaces(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """Those of failed runs go by themselves when their time is over; when room is short, before it."""
    store = resources.store
    kept = [view for view in await store.workspaces.all_views() if view.kept_until is not None]
    for run in dict.fromkeys(view.run for view in kept) if turn.pressed else ():

        async def remove() -> bool:
            await store.retention.hasten_views()
            await resources.workspaces.discard_views(await store.workspaces.expired_views())
            return True

        yield Garbage("workspace", run, "room is short", None, remove)


async def checkouts(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """All that no run uses, when room is short."""
    before = turn.now if turn.pressed else turn.before(resources.config().retention.checkouts)
    for tree in await resources.store.retention.unused_trees(before):
        folder = resources.data_dir / "trees" / tree

        async def remove(tree: str = tree, folder: Path = folder) -> bool:
            if not await resources.store.workspaces.drop_tree(tree):
                return False
            await resources.executor.remove_paths([folder])
            return True

        why = f"not used since {before:%Y-%m-%d %H:%M}"
        yield Garbage("checkout", tree, why, await asyncio.to_thread(size_of, folder), remove)


async def mirrors(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """Of repositories that no service and no run that goes on has."""
    before = turn.before(resources.config().retention.checkouts)

    async def unused() -> dict[Path, StoredMirror]:
        config, active = resources.config(), await resources.store.runs.active()
        used = [*config.services.values(), *(Parameters.model_validate(run.parameters) for run in active)]
        urls = {one.repo for one in used}
        urls |= {one.integration_test.repo for one in used if one.integration_test and one.integration_test.repo}
        others = await resources.forge.other_mirrors(urls)
        return {one.folder: one for one in others if one.fetched_at < before}

    for mirror in (await unused()).values():

        async def remove(mirror: StoredMirror = mirror) -> bool:
            if mirror.folder not in await unused():
                return False
            await resources.forge.forget(mirror)
            return True

        why = f"no service has it, not fetched since {before:%Y-%m-%d}"
        yield Garbage("mirror", mirror.address, why, await asyncio.to_thread(size_of, mirror.folder), remove)


async def caches(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """Of services that have not run."""
    retention, before = resources.store.retention, turn.before(resources.config().retention.caches)
    for service, path, layers in await retention.unused_caches(before):
        folders = [resources.data_dir / "caches" / layer for layer in layers]

        async def remove(service: str = service, path: str = path, folders: list[Path] = folders) -> bool:
            if not await retention.forget_cache(service, path, before):
                return False
            await resources.executor.remove_paths([folder for folder in folders if folder.exists()])
            return True

        size = sum([await asyncio.to_thread(size_of, folder) for folder in folders])
        yield Garbage("cache", f"{service} {path}", f"no run since {before:%Y-%m-%d}", size, remove)
