"""The layers of a cache, after the agent died while it made one of many."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from executors.scripted import ScriptedExecutor
from seamless.agent.store import Store, View
from seamless.agent.workspaces import RunWorkspaces
from seamless.forges.git import GitForge
from seamless.model import StageName
from seamless.transitions import RunState

from .storing import new_run, with_store


def test_what_has_been_made_one_layer_is_not_put_on_top_again_and_a_lost_one_is_left_out(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        workspaces = RunWorkspaces(tmp_path, "0badcafe", store, GitForge(tmp_path / "mirrors"), ScriptedExecutor())
        parameters = {"repo": "/somewhere", "caches": ["/cache"]}
        created = await store.runs.create(dataclasses.replace(new_run(), parameters=parameters))
        run = dataclasses.replace(created, state=RunState.SUCCESS)
        view = View("v", run.id, StageName.UNIT_TEST, tree="", folder="v", kept_until=None)
        await store.workspaces.claim_tree("key", run.commit, view, new_tree="v")
        await store.workspaces.set_cache_layers("web", "/cache", ["web-1-flat-0"], run="web-1")
        (tmp_path / "caches/web-1-flat-0/upper").mkdir(parents=True)
        (tmp_path / "caches/web-1-unit_test-0").mkdir()  # half removed
        await workspaces.keep_caches(run)
        assert await store.workspaces.cache_layers("web", "/cache") == ["web-1-flat-0"]

        await store.workspaces.set_cache_layers("web", "/cache", ["web-1-unit_test-0", "web-1-flat-0"], run="web-1")
        assert await workspaces._layers_under(tmp_path / "view", "web", "/cache") == ["web-1-flat-0"]

    with_store(tmp_path / "seamless.db", body)
