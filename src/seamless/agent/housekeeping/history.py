"""Old runs, and their logs, which are packed before they go."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from seamless.agent.housekeeping.garbage import Collected, Garbage, Turn, size_of
from seamless.agent.resources import Resources
from seamless.errors import StorageError

_log = logging.getLogger(__name__)


async def runs(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """With their logs. A shortage of room does not hurry it: what is known of a run takes next to none."""
    retention, kept = resources.store.retention, resources.config().retention
    before, keep = turn.now - timedelta(seconds=kept.runs), kept.keep_runs
    for run in await retention.runs_before(before, keep):
        folder = resources.data_dir / "logs" / run.rpartition("-")[0] / run

        async def remove(run: str = run, folder: Path = folder) -> bool:
            if not await retention.forget_run(run, before, keep):
                return False
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            return True

        yield Garbage("run", run, f"ended before {before:%Y-%m-%d}", await asyncio.to_thread(size_of, folder), remove)


async def logs(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """With what stages left for people."""
    retention, before = resources.store.retention, turn.before(resources.config().retention.logs)
    for folder in await asyncio.to_thread(_folders, resources.data_dir / "logs"):
        if not await retention.has_ended_before(folder.name, before):
            continue

        async def remove(folder: Path = folder) -> bool:
            if not await retention.has_ended_before(folder.name, before):
                return False
            await asyncio.to_thread(shutil.rmtree, folder)
            return True

        why = f"its run ended before {before:%Y-%m-%d}"
        yield Garbage("log", folder.name, why, await asyncio.to_thread(size_of, folder), remove)


async def pack_logs(resources: Resources, *, dry_run: bool) -> list[Collected]:
    """The logs of runs that are over take a fraction of their room from now on, and read as before."""
    done: list[Collected] = []
    for folder in await asyncio.to_thread(_folders, resources.data_dir / "logs"):
        run = folder.name
        unpacked = await asyncio.to_thread(resources.logs.unpacked, run)
        if not unpacked or not await resources.store.retention.is_over(run):
            continue
        saved = kept = None
        try:
            saved = None if dry_run else await resources.logs.pack(run)
        except StorageError as error:
            _log.warning("%s", error.message)
            kept = error.message
        done.append(Collected("packed", run, "its run is over", saved, kept))
    return done


def _folders(logs: Path) -> list[Path]:
    """The runs that have logs."""
    return sorted(run for service in logs.iterdir() if service.is_dir() for run in service.iterdir() if run.is_dir())
