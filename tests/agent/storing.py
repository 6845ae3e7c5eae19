"""A store in a file of its own, and what the tests put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from seamless.agent.store import NewRun, Store
from seamless.model import DigestKind, Image, ImageRef, Run, RunOptions, StageName, Trigger, Trust

T = TypeVar("T")
COMMIT = "a" * 40


def with_store(path: Path, body: Callable[[Store], Awaitable[T]]) -> T:
    """Opens the store at `path`, runs `body`, and closes it."""

    async def main() -> T:
        store = await Store.open(path)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


def new_run(service: str = "web", stages: tuple[StageName, ...] = tuple(StageName)) -> NewRun:
    return NewRun(
        service=service,
        trigger=Trigger.MAIN,
        trust=Trust.TRUSTED,
        ref="refs/heads/main",
        commit=COMMIT,
        subject="a change",
        author="Ada",
        requested_by="ada",
        parameters={"repo": "/somewhere"},
        options=RunOptions(on_branch=True),
        stages=stages,
    )


async def add_image(store: Store, run: Run, *, trusted: bool = True) -> Image:
    ref = ImageRef(f"sha256:{run.number:064x}", DigestKind.IMAGE_ID)
    return await store.images.add(
        service=run.service, commit=run.commit, ref=ref, tag="t", run=run.id, build_key="key", trusted=trusted
    )
