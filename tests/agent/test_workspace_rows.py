"""Who may have which tree: one that a view exists of is never handed out to be changed."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.storing import with_store
from seamless.agent.store import Store, Tree, View
from seamless.model import utc_now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seamless.db"


def a_view(name: str, folder: str | None = None) -> View:
    return View(name, name.rpartition("-")[0], "prepare", tree="", folder=folder or name, kept_until=None)


async def claim(store: Store, view: str, commit: str, repository: str = "repo") -> Tree:
    return await store.workspaces.claim_tree(repository, commit, a_view(view), new_tree=view)


def test_a_tree_of_the_commit_is_shared_and_an_unused_one_is_changed(path: Path) -> None:
    async def body(store: Store) -> None:
        first = await claim(store, "web-1", "a")
        assert first == Tree("web-1", "repo", None)
        await store.workspaces.finish_tree(first.id, "a")
        assert await claim(store, "web-2", "a") == Tree("web-1", "repo", "a")
        assert (await claim(store, "web-3", "b")).id == "web-3"  # both views stand on the first
        await store.workspaces.drop_view(a_view("web-1"))
        assert (await claim(store, "web-4", "c")).id == "web-4"
        await store.workspaces.drop_view(a_view("web-2"))
        assert await claim(store, "web-5", "d") == Tree("web-1", "repo", None)  # to be brought up to date
        assert (await claim(store, "web-6", "a", repository="another")).id == "web-6"

    with_store(path, body)


def test_the_same_view_gets_the_same_tree_again(path: Path) -> None:
    async def body(store: Store) -> None:
        first = await claim(store, "web-1", "a")
        assert await claim(store, "web-1", "a") == first
        await store.workspaces.finish_tree(first.id, "a")
        assert (await claim(store, "web-1", "a")).commit == "a"

    with_store(path, body)


def test_two_that_claim_at_once_never_get_one_tree_to_write(path: Path) -> None:
    async def body(store: Store) -> None:
        await claim(store, "web-0", "old")
        await store.workspaces.finish_tree("web-0", "old")
        await store.workspaces.drop_view(a_view("web-0"))
        trees = await asyncio.gather(*(claim(store, f"web-{number}", f"commit {number}") for number in range(1, 20)))
        assert len({tree.id for tree in trees}) == 19
        assert all(tree.commit is None for tree in trees)

    with_store(path, body)


def test_a_folder_may_go_when_the_last_view_that_names_it_has_gone(path: Path) -> None:
    async def body(store: Store) -> None:
        tree = await claim(store, "web-1", "a")
        shared = View("web-2", "web-2", "prepare", tree.id, "web-1", None)
        await store.workspaces.add_view(shared)
        assert not await store.workspaces.drop_view(a_view("web-1"))
        assert not await store.workspaces.drop_tree(tree.id)
        assert await store.workspaces.drop_view(shared)
        assert await store.workspaces.drop_tree(tree.id)

    with_store(path, body)


def test_kept_views_expire(path: Path) -> None:
    async def body(store: Store) -> None:
        await claim(store, "web-1", "a")
        await claim(store, "pay-1", "a")
        await store.workspaces.keep_views("web", utc_now() - timedelta(seconds=1))
        await store.workspaces.keep_views("pay", utc_now() + timedelta(hours=1))
        assert [view.id for view in await store.workspaces.expired_views()] == ["web-1"]

    with_store(path, body)


@dataclass
class Disk:
    """What lies in each tree's folder, and which claims read it."""

    content: dict[str, str | None] = field(default_factory=dict)
    readers: dict[str, dict[str, str]] = field(default_factory=dict)  # tree -> view -> the commit it needs


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["claim", "claim", "finish", "drop"]), st.integers(0, 5), st.sampled_from("abc")),
        max_size=40,
    )
)
def test_no_claim_ever_changes_a_tree_under_another_view(steps: list[tuple[str, int, str]]) -> None:
    async def body(store: Store) -> None:
        disk, claims, writing = Disk(), dict[int, tuple[Tree, str]](), set[int]()
        for number, (action, who, commit) in enumerate(steps):
            view = f"run-{who}"
            match action:
                case "claim" if who not in claims:
                    tree = await store.workspaces.claim_tree("repo", commit, a_view(view), new_tree=f"tree-{number}")
                    if tree.commit is None:  # it will be written to
                        assert not disk.readers.get(tree.id), f"{view} may write to what others read"
                        disk.content[tree.id] = None
                        writing.add(who)
                    else:
                        assert disk.content[tree.id] == tree.commit == commit
                    disk.readers.setdefault(tree.id, {})[view] = commit
                    claims[who] = (tree, commit)
                case "finish" if who in writing:
                    tree, wanted = claims[who]
                    disk.content[tree.id] = wanted
                    await store.workspaces.finish_tree(tree.id, wanted)
                    writing.discard(who)
                case "drop" if who in claims:
                    tree, _ = claims.pop(who)
                    writing.discard(who)  # it died: the tree's content is not known
                    del disk.readers[tree.id][view]
                    await store.workspaces.drop_view(a_view(view))

    with tempfile.TemporaryDirectory() as folder:
        with_store(Path(folder) / "seamless.db", body)
