"""A disk that is full at any point of a fetch and a checkout: it is told as that, and no tree is ever a wrong one."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from faults.disks import Filler, small_disk
from forges.origins import Origin, contents
from seamless.errors import StorageError
from seamless.forges import Repository
from seamless.forges.git import GitForge

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts small disks")

_FILE = 16 * 1024
_FILES = 16
_STEP = 64 * 1024


def test_a_disk_that_fills_at_any_point_is_told_and_leaves_no_wrong_tree(tmp_path: Path) -> None:
    dice = random.Random(7)
    origin = Origin(tmp_path / "origin")
    disk = tmp_path / "disk"
    with small_disk(disk, "16m"):
        filler = Filler(disk)
        forge = GitForge(disk / "mirrors")
        files, index = disk / "tree" / "files", disk / "tree" / "index"

        def show(commit: str) -> None:
            async def main() -> None:
                repository = Repository(origin.url)
                await forge.fetch(repository, commit, "refs/heads/main")
                await forge.checkout(repository, commit, files, index)

            asyncio.run(main())
            assert contents(files) == contents(origin.clone(commit, tmp_path / "clone"))

        def change() -> str:
            return origin.commit({f"d/f{number}": dice.randbytes(_FILE) for number in range(_FILES)})

        files.parent.mkdir()
        show(change())
        room, told = 0, 0
        while True:
            commit = change()
            filler.leave(room)
            try:
                show(commit)
                break
            except StorageError:
                told += 1
            finally:
                filler.go()
            show(commit)
            room += _STEP
        assert told > 4
