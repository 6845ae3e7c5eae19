"""What is removed because it was kept long enough: images, logs, runs, checkouts, mirrors, caches, kept workspaces.

By age and number each hour, and at once with shorter ages while the host is short of room. Never what runs, what a
rollback would take, what a hold or an approval means, or what a run that has not ended stands on: the store decides
that again in the transaction that gives each thing up, before it is removed. Logs that stay are packed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from seamless.agent.resources import Resources
from seamless.config import Parameters
from seamless.errors import SeamlessError, StorageError
from seamless.forges import StoredMirror
from seamless.model import Actor, Image, short, utc_now
from seamless.stages.build import image_repository, remove_image

_LOOK_S: Final = 60.0
_EVERY_TURNS: Final = 60
_PRESSED: Final = timedelta(days=7)  # the oldest that is kept while the host is short of room
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """One thing that went, or would, or should have."""

    kind: str  # "image", "log", "run", "checkout", "mirror", "cache", "workspace"; "packed": a log takes less room now
    name: str
    why: str
    size: int | None  # bytes of the disk; None: not known before, or without asking the engine
    kept: str | None = None  # why it could not be removed


@dataclass(frozen=True, slots=True)
class _Garbage:
    kind: str
    name: str
    why: str
    size: int | None
    remove: Callable[[], Awaitable[bool]]  # False: it is needed again

    def told(self, kept: str | None = None) -> Collected:
        return Collected(self.kind, self.name, self.why, self.size, kept)


class Housekeeper:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._retention = resources.store.retention
        self._busy = asyncio.Lock()

    async def keep_house(self) -> None:
        """For ever."""
        turn = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            turn += 1
            pressed = self._resources.room.shortage() is not None
            if pressed or turn % _EVERY_TURNS == 0:
                await self.collect(pressed=pressed)

    async def collect(
        self, *, pressed: bool = False, dry_run: bool = False, actor: Actor | None = None
    ) -> list[Collected]:
        """Removes what may go, and returns it; what cannot be removed is told, and tried again next time."""
        found: list[Collected] = []
        async with self._busy:
            async for garbage in self._found(pressed=pressed):
                try:
                    if dry_run or await garbage.remove():
                        found.append(garbage.told())
                except (SeamlessError, OSError) as error:
                    _log.warning("%s %s could not be removed: %s", garbage.kind, garbage.name, error)
                    found.append(garbage.told(kept=str(error)))
            found += await self._packed(dry_run=dry_run)
        counts = Counter(one.kind for one in found if one.kept is None)
        if counts and not dry_run:
            who = Actor("agent") if actor is None else actor
            kind = "agent" if actor is None else "action"
            await self._resources.store.events.add(kind, "gc", actor=who.name, origin=who.origin, data=counts)
        return found

    async def _found(self, *, pressed: bool) -> AsyncIterator[_Garbage]:
        """Runs before logs: the log of a run that goes, goes with it."""
        kept = self._resources.config().retention
        now = utc_now()

        def before(seconds: float) -> datetime:
            age = timedelta(seconds=seconds)
            return now - (min(age, _PRESSED) if pressed else age)

        for find in (
            self._workspaces(pressed),
            self._images(),
            self._runs(now - timedelta(seconds=kept.runs), kept.keep_runs),
            self._logs(before(kept.logs)),
            self._trees(now if pressed else before(kept.checkouts)),
            self._mirrors(before(kept.checkouts)),
            self._caches(before(kept.caches)),
        ):
            async for garbage in find:
                yield garbage

    async def _packed(self, *, dry_run: bool) -> list[Collected]:
        """The logs of runs that are over take a fraction of their room from now on, and read as before."""
        logs = self._resources.logs
        done: list[Collected] = []
        for folder in await asyncio.to_thread(_folders, self._resources.data_dir / "logs"):
            run = folder.name
            if not await asyncio.to_thread(logs.unpacked, run) or not await self._retention.is_over(run):
                continue
            saved = kept = None
            try:
                saved = None if dry_run else await logs.pack(run)
            except StorageError as error:
                _log.warning("%s", error.message)
                kept = error.message
            done.append(Collected("packed", run, "its run is over", saved, kept))
        return done

    async def _workspaces(self, pressed: bool) -> AsyncIterator[_Garbage]:
        """Those of failed runs go by themselves when their time is over; when room is short, before it."""
        views = [view for view in await self._resources.store.workspaces.all_views() if view.kept_until is not None]
        for run in dict.fromkeys(view.run for view in views) if pressed else ():

            async def remove() -> bool:
                await self._retention.hasten_views()
                expired = await self._resources.store.workspaces.expired_views()
                await self._resources.workspaces.discard_views(expired)
                return True

            yield _Garbage("workspace", run, "room is short", None, remove)

    async def _images(self) -> AsyncIterator[_Garbage]:
        services = self._resources.config().services
        default: int = Parameters.model_fields["keep_images"].default
        for service in await self._retention.image_services():
            keep = services[service].keep_images if service in services else default
            for image in await self._retention.old_images(service, keep):

                async def remove(image: Image = image, service: str = service, keep: int = keep) -> bool:
                    if not await self._retention.take_image(image, keep):
                        return False
                    try:
                        await remove_image(image_repository(service, None, self._resources.installation), image.tag)
                    except BaseException:
                        await self._resources.store.images.mark_there(image.id)
                        raise
                    return True

                why = f"older than the {keep} that are kept"
                yield _Garbage("image", f"{service}@{short(image.commit)}", why, None, remove)

    async def _runs(self, before: datetime, keep: int) -> AsyncIterator[_Garbage]:
        for run in await self._retention.runs_before(before, keep):
            folder = self._log_folder(run)

            async def remove(run: str = run, folder: Path = folder) -> bool:
                if not await self._retention.forget_run(run, before, keep):
                    return False
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                return True

            yield _Garbage(
                "run", run, f"ended before {before:%Y-%m-%d}", await asyncio.to_thread(_size, folder), remove
            )

    async def _logs(self, before: datetime) -> AsyncIterator[_Garbage]:
        for folder in await asyncio.to_thread(_folders, self._resources.data_dir / "logs"):
            if not await self._retention.has_ended_before(folder.name, before):
                continue

            async def remove(folder: Path = folder) -> bool:
                if not await self._retention.has_ended_before(folder.name, before):
                    return False
                await asyncio.to_thread(shutil.rmtree, folder)
                return True

            why = f"its run ended before {before:%Y-%m-%d}"
            yield _Garbage("log", folder.name, why, await asyncio.to_thread(_size, folder), remove)

    async def _trees(self, before: datetime) -> AsyncIterator[_Garbage]:
        for tree in await self._retention.unused_trees(before):
            folder = self._resources.data_dir / "trees" / tree

            async def remove(tree: str = tree, folder: Path = folder) -> bool:
                if not await self._resources.store.workspaces.drop_tree(tree):
                    return False
                await self._resources.executor.remove_paths([folder])
                return True

            why = f"not used since {before:%Y-%m-%d %H:%M}"
            yield _Garbage("checkout", tree, why, await asyncio.to_thread(_size, folder), remove)

    async def _mirrors(self, before: datetime) -> AsyncIterator[_Garbage]:
        """Of repositories that no service and no run that goes on has."""

        async def unused() -> dict[Path, StoredMirror]:
            config, active = self._resources.config(), await self._resources.store.runs.active()
            used = [*config.services.values(), *(Parameters.model_validate(run.parameters) for run in active)]
            urls = {one.repo for one in used}
            urls |= {one.integration_test.repo for one in used if one.integration_test and one.integration_test.repo}
            others = await self._resources.forge.other_mirrors(urls)
            return {one.folder: one for one in others if one.fetched_at < before}

        for mirror in (await unused()).values():

            async def remove(mirror: StoredMirror = mirror) -> bool:
                if mirror.folder not in await unused():
                    return False
                await self._resources.forge.forget(mirror)
                return True

            why = f"no service has it, not fetched since {before:%Y-%m-%d}"
            yield _Garbage("mirror", mirror.address, why, await asyncio.to_thread(_size, mirror.folder), remove)

    async def _caches(self, before: datetime) -> AsyncIterator[_Garbage]:
        for service, path, layers in await self._retention.unused_caches(before):
            folders = [self._resources.data_dir / "caches" / layer for layer in layers]

            async def remove(service: str = service, path: str = path, folders: list[Path] = folders) -> bool:
                if not await self._retention.forget_cache(service, path, before):
                    return False
                await self._resources.executor.remove_paths([folder for folder in folders if folder.exists()])
                return True

            size = sum([await asyncio.to_thread(_size, folder) for folder in folders])
            yield _Garbage("cache", f"{service} {path}", f"no run since {before:%Y-%m-%d}", size, remove)

    def _log_folder(self, run: str) -> Path:
        return self._resources.data_dir / "logs" / run.rpartition("-")[0] / run


def _folders(logs: Path) -> list[Path]:
    """The runs that have logs."""
    return sorted(run for service in logs.iterdir() if service.is_dir() for run in service.iterdir() if run.is_dir())


def _size(folder: Path) -> int:
    """Bytes that its files take on the disk; what cannot be read is not counted."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
    return total
