"""Finding what people mean by a ref, and getting exactly that into the mirror."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seamless import programs
from seamless.errors import UnavailableError, UsageError
from seamless.forges import CommitGoneError, RefNotFoundError, RemoteUnavailableError, Repository, Resolved
from seamless.forges.git import GitForge
from seamless.forges.remotes import parse

from .origins import Origin, git


def mirror_of(tmp_path: Path, repository: Repository) -> Path:
    return tmp_path / "data" / "mirrors" / f"{parse(repository).key}.git"


def test_branches_tags_full_refs_and_head(origin: Origin, repository: Repository, forge: GitForge) -> None:
    first = origin.commit({"a": "1"})
    origin.git("tag", "light")
    origin.git("tag", "-a", "v1.0", "-m", "the first")
    origin.git("update-ref", "refs/pull/17/head", first)
    second = origin.commit({"a": "2"})
    origin.git("branch", "feature/größe")
    origin.git("branch", "a$(id);`id`")

    async def main() -> None:
        resolved = {
            ref: await forge.resolve(repository, ref)
            for ref in ("main", "refs/heads/main", "HEAD", "v1.0", "refs/tags/v1.0", "light", "refs/pull/17/head")
        }
        on_main = Resolved("refs/heads/main", second)
        assert resolved["main"] == resolved["refs/heads/main"] == resolved["HEAD"] == on_main
        assert resolved["v1.0"] == resolved["refs/tags/v1.0"] == Resolved("refs/tags/v1.0", first)
        assert resolved["light"] == Resolved("refs/tags/light", first)
        assert resolved["refs/pull/17/head"] == Resolved("refs/pull/17/head", first)
        assert (await forge.resolve(repository, "feature/größe")).commit == second
        assert (await forge.resolve(repository, "a$(id);`id`")).ref == "refs/heads/a$(id);`id`"

    asyncio.run(main())


def test_a_branch_goes_before_a_tag_and_both_before_a_sha(
    origin: Origin, repository: Repository, forge: GitForge
) -> None:
    tagged = origin.commit({"a": "1"})
    origin.git("tag", "both")
    origin.git("tag", "cafe")
    branched = origin.commit({"a": "2"})
    origin.git("branch", "both")

    async def main() -> None:
        assert await forge.resolve(repository, "both") == Resolved("refs/heads/both", branched)
        assert await forge.resolve(repository, "refs/tags/both") == Resolved("refs/tags/both", tagged)
        assert await forge.resolve(repository, "cafe") == Resolved("refs/tags/cafe", tagged)

    asyncio.run(main())


def test_commits_by_their_sha(origin: Origin, repository: Repository, forge: GitForge) -> None:
    commit = origin.commit({"a": "1"})
    origin.git("tag", "-a", "v1", "-m", "x")
    tag = origin.git("rev-parse", "v1")
    blob = origin.git("rev-parse", "HEAD:a")

    async def main() -> None:
        for sha in (commit, commit.upper(), commit[:7], commit[:12].upper(), tag):
            assert await forge.resolve(repository, sha) == Resolved(commit, commit)
        for unknown in ("0" * 40, "0" * 39, blob):
            with pytest.raises(RefNotFoundError, match="has no branch, tag or commit"):
                await forge.resolve(repository, unknown)

    asyncio.run(main())


def test_an_ambiguous_sha_names_its_candidates(origin: Origin, repository: Repository, forge: GitForge) -> None:
    seen: dict[str, str] = {}
    twins: list[str] = []
    tree = origin.git("write-tree")
    parents: list[str] = []
    while not twins:  # about 300 commits until two share four digits
        date = f"{1_700_000_000 + len(seen)} +0000"
        commit = origin.git("commit-tree", tree, *parents, "-m", "x", GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)
        parents = ["-p", commit]
        twins = sorted([seen[commit[:4]], commit]) if commit[:4] in seen else []
        seen[commit[:4]] = commit
    origin.git("update-ref", "refs/heads/main", commit)

    async def main() -> None:
        with pytest.raises(RefNotFoundError, match="is ambiguous") as error:
            await forge.resolve(repository, commit[:4])
        assert list(error.value.candidates) == twins
        assert all(twin in str(error.value.hint) for twin in twins)

    asyncio.run(main())


def test_what_does_not_exist_gets_what_may_have_been_meant(
    origin: Origin, repository: Repository, forge: GitForge
) -> None:
    async def main() -> None:
        with pytest.raises(RefNotFoundError, match="has no branch, tag or commit 'main'"):
            await forge.resolve(repository, "main")  # an empty repository
        with pytest.raises(RefNotFoundError):
            await forge.resolve(repository, "HEAD")
        origin.commit({"a": "1"})
        origin.git("branch", "feature/payments")
        with pytest.raises(RefNotFoundError) as error:
            await forge.resolve(repository, "feature/payment")
        assert error.value.candidates == ("refs/heads/feature/payments",)
        assert error.value.hint == "did you mean feature/payments?"
        with pytest.raises(RefNotFoundError):
            await forge.resolve(repository, "refs/heads/gone")
        with pytest.raises(UsageError):
            await forge.resolve(repository, "--upload-pack=x")

    asyncio.run(main())


def test_heads(origin: Origin, repository: Repository, forge: GitForge) -> None:
    commit = origin.commit({"a": "1"})
    origin.git("branch", "x/1")
    origin.git("tag", "-a", "v1", "-m", "annotated")

    async def main() -> None:
        assert await forge.heads(repository, ["refs/heads/*"]) == {"refs/heads/main": commit, "refs/heads/x/1": commit}
        assert await forge.heads(repository, ["refs/heads/main", "refs/tags/*"]) == {
            "refs/heads/main": commit,
            "refs/tags/v1": commit,
        }
        assert await forge.heads(repository, ["refs/heads/none"]) == {}
        with pytest.raises(UsageError):
            await forge.heads(repository, ["--sort=x"])

    asyncio.run(main())


def test_a_fetch_brings_the_commit_its_history_and_nothing_else(
    origin: Origin, repository: Repository, forge: GitForge, tmp_path: Path
) -> None:
    first = origin.commit({"a": "1"})
    wanted = origin.commit({"a": "2"})
    origin.git("tag", "v1")
    later = origin.commit({"a": "3"})
    spool = tmp_path / "spool"
    spool.write_text("before\n")

    async def main() -> None:
        await forge.fetch(repository, wanted, "refs/heads/main", spool)
        assert [commit.commit for commit in await forge.log(repository, None, wanted)] == [wanted, first]
        with pytest.raises(CommitGoneError):
            await forge.info(repository, later)

    asyncio.run(main())
    mirror = mirror_of(tmp_path, repository)
    assert git(mirror, "for-each-ref", "--format=%(objectname)") == wanted
    assert (mirror / "description").read_text() == f"{origin.url}\n"
    assert spool.read_text().startswith("before\n")
    assert "Receiving objects: 100%" in spool.read_text()


def test_a_commit_that_is_there_needs_no_remote(origin: Origin, repository: Repository, forge: GitForge) -> None:
    commit = origin.commit({"a": "1"})

    async def main() -> None:
        await forge.fetch(repository, commit, "refs/heads/main")
        origin.path.rename(origin.path.with_name("away"))
        await forge.fetch(repository, commit, "refs/heads/main")
        with pytest.raises(RemoteUnavailableError):
            await forge.fetch(repository, "1" * 40, "refs/heads/main")

    asyncio.run(main())


def test_a_commit_that_was_rewritten_away_is_gone(
    origin: Origin, repository: Repository, forge: GitForge, tmp_path: Path
) -> None:
    origin.commit({"a": "1"})
    kept = origin.commit({"a": "2"})
    rewritten = origin.commit({"a": "3"})

    async def main() -> None:
        await forge.fetch(repository, kept, "refs/heads/main")
        origin.git("reset", "--quiet", "--hard", "HEAD~2")
        origin.git("reflog", "expire", "--expire=now", "--all")
        origin.git("gc", "--quiet", "--prune=now")
        with pytest.raises(CommitGoneError, match=f"commit {rewritten} is no longer to be had"):
            await forge.fetch(repository, rewritten, "refs/heads/main")
        await forge.fetch(repository, kept, "refs/heads/main")  # pinned: it was fetched in time
        assert (await forge.info(repository, kept)).commit == kept
        origin.git("branch", "-m", "main", "other")
        with pytest.raises(CommitGoneError):
            await forge.fetch(repository, rewritten, "refs/heads/main")

    asyncio.run(main())


def test_branches_that_become_folders_are_not_in_each_others_way(
    origin: Origin, repository: Repository, forge: GitForge
) -> None:
    origin.commit({"a": "1"})

    async def main() -> None:
        for branch in ("x", "x/y", "x"):
            origin.git("checkout", "--quiet", "--detach")
            origin.git("for-each-ref", "--shell", "--format=delete %(refname)", "refs/heads/x")
            for name in origin.git("for-each-ref", "--format=%(refname)", "refs/heads/x").split():
                origin.git("update-ref", "-d", name)
            commit = origin.commit({"a": branch})
            origin.git("update-ref", f"refs/heads/{branch}", commit)
            await forge.fetch(repository, commit, f"refs/heads/{branch}")
            assert (await forge.resolve(repository, commit[:10])).commit == commit

    asyncio.run(main())


def test_two_fetches_at_once(origin: Origin, repository: Repository, forge: GitForge) -> None:
    commits = [origin.commit({"a": str(number)}) for number in range(3)]

    async def main() -> None:
        await asyncio.gather(*(forge.fetch(repository, commit, "refs/heads/main") for commit in commits * 2))
        assert await forge.is_ancestor(repository, commits[0], commits[2])

    asyncio.run(main())


def test_sha256_repositories(tmp_path: Path, forge: GitForge) -> None:
    origin = Origin(tmp_path / "sha256", object_format="sha256")
    commit = origin.commit({"a": "1"})
    repository = Repository(origin.url)

    async def main() -> None:
        assert (await forge.resolve(repository, commit[:9])).commit == commit
        await forge.fetch(repository, commit, "refs/heads/main")
        assert await forge.checkout(repository, commit, tmp_path / "t" / "files", tmp_path / "t" / "index") == 1

    asyncio.run(main())


def test_maintenance_leaves_one_pack_and_every_commit(
    origin: Origin, repository: Repository, forge: GitForge, tmp_path: Path
) -> None:
    async def main() -> None:
        await forge.maintain(repository)  # there is no mirror yet
        commits = []
        for number in range(32):
            commits.append(origin.commit({"a": str(number)}))
            await forge.fetch(repository, commits[-1], "refs/heads/main")
        await forge.maintain(repository)
        assert len(await forge.log(repository, None, commits[-1])) == 32

    asyncio.run(main())
    assert len(list(mirror_of(tmp_path, repository).glob("objects/pack/*.pack"))) == 1


def test_a_missing_or_old_git_is_told_of(
    origin: Origin, repository: Repository, forge: GitForge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_dies_with_agent", lambda: ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no program git"):
        asyncio.run(forge.heads(repository, ["refs/heads/main"]))
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.37.9\n")
    (tmp_path / "git").chmod(0o755)
    with pytest.raises(UnavailableError, match=r"git 2\.38 or later is needed, this host has 'git version 2\.37\.9'"):
        asyncio.run(forge.heads(repository, ["refs/heads/main"]))
