"""What is remembered of refs, pull requests and repositories, and the words that were given for forks' commits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.storing import COMMIT, new_run, with_store
from seamless.agent.store import KnownPullRequest, Store
from seamless.model import Approval, RunOptions, utc_now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seamless.db"


def test_a_ref_goes_on_only_from_what_was_known_of_it(path: Path) -> None:
    async def body(store: Store) -> list[bool]:
        ref = "refs/heads/main"
        steps = [(None, "a"), (None, "b"), ("a", "b"), ("a", "c"), ("b", "b")]
        went = [await store.heads.advance("web", ref, before, after) for before, after in steps]
        await store.heads.see("web", ref, "d")
        assert await store.heads.known("web") == {ref: "d"}
        assert await store.heads.known("other") == {}
        return went

    assert with_store(path, body) == [True, False, True, False, True]


def test_a_pull_request_goes_on_only_from_what_was_known_of_it(path: Path) -> None:
    async def body(store: Store) -> None:
        heads = store.heads
        draft, ready = KnownPullRequest(7, "a", waits=True), KnownPullRequest(7, "a", waits=False)
        assert await heads.advance_pull_request("web", 7, None, draft)
        assert not await heads.advance_pull_request("web", 7, None, ready)
        assert not await heads.advance_pull_request("web", 7, ready, None)
        assert await heads.advance_pull_request("web", 7, draft, ready)
        assert await heads.pull_requests("web") == {7: ready}
        assert await heads.advance_pull_request("web", 7, ready, None)
        assert await heads.pull_requests("web") == {}

    with_store(path, body)


def test_what_is_watched_is_what_was_named_last(path: Path) -> None:
    async def body(store: Store) -> None:
        await store.heads.watch("web", ["a", "b"])
        await store.heads.watch("web", ["b", "c"])
        assert await store.heads.watched("web") == {"b", "c"}
        assert await store.heads.watched("other") == frozenset()

    with_store(path, body)


def test_a_repository_keeps_its_number_until_nobody_uses_its_address(path: Path) -> None:
    async def body(store: Store) -> None:
        await store.repositories.identify("https://x/a", 1)
        await store.repositories.identify("https://x/a", 2)
        await store.repositories.identify("https://x/b", 3)
        assert await store.repositories.id_of("https://x/a") == 1
        await store.repositories.keep_only(["https://x/b"])
        assert [await store.repositories.id_of(f"https://x/{name}") for name in "ab"] == [None, 3]

    with_store(path, body)


def test_a_word_for_a_forks_commit_holds_for_that_commit_of_that_service_only(path: Path) -> None:
    async def body(store: Store) -> None:
        gated = replace(new_run(), ref="refs/pull/7/head", options=RunOptions(fork=True, gated=True))
        waiting = await store.runs.create(gated)
        asked = Approval("a fork's", expires_at=utc_now(), production=None)
        await store.runs.set_approval(waiting.id, asked)
        assert await store.runs.word_for("web", gated.ref, COMMIT) is None
        given = replace(asked, by="ada")
        await store.runs.set_approval(waiting.id, given)
        assert (await store.runs.word_for("web", gated.ref, COMMIT) or asked).by == "ada"
        assert await store.runs.word_for("web", gated.ref, "b" * 40) is None
        assert await store.runs.word_for("web", "refs/pull/8/head", COMMIT) is None
        assert await store.runs.word_for("other", gated.ref, COMMIT) is None
        again = await store.runs.create(replace(gated, approval=given))
        assert again.approval is not None
        assert again.approval.by == "ada"
        assert [run.id for run in await store.runs.active_of("web", gated.ref)] == ["web-1", "web-2"]

    with_store(path, body)
