"""What the mirror knows about commits, and merging two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seamless.errors import StageError
from seamless.forges import CommitGoneError, CommitInfo, MergeConflictError, Repository
from seamless.forges.git import GitForge

from .origins import Origin


def branch(origin: Origin, base: str, changes: Mapping[str, str | bytes | None]) -> str:
    origin.git("checkout", "--quiet", "-B", "feature", base)
    commit = origin.commit(changes)
    origin.git("checkout", "--quiet", "main")
    return commit


async def fetch(forge: GitForge, repository: Repository, *commits: str) -> None:
    for commit in commits:
        await forge.fetch(repository, commit, commit)


def test_commits_are_read_as_they_are(origin: Origin, repository: Repository, forge: GitForge) -> None:
    when = {"GIT_COMMITTER_DATE": "2026-11-23T12:00:00+02:00", "GIT_AUTHOR_NAME": "Jörg \x1b[31m Ω"}
    first = origin.commit({"a": "1"}, "Größe\nfolgt\n\nthe body", **when)
    origin.git("config", "i18n.commitEncoding", "ISO-8859-1")
    latin = origin.commit_all("latin", GIT_AUTHOR_NAME=b"J\xf6rg".decode("latin-1"))
    second = origin.commit({"a": "2"}, "last")

    async def main() -> None:
        await fetch(forge, repository, second)
        info = await forge.info(repository, first)
        at = datetime(2026, 11, 23, 10, tzinfo=UTC)
        message = "Größe\nfolgt\n\nthe body"
        assert info == CommitInfo(first, "Größe folgt", "Jörg \x1b[31m Ω", at, message)
        listed = await forge.log(repository, first, second)
        assert [commit.commit for commit in listed] == [second, latin]
        assert await forge.log(repository, second, second) == []
        assert len(await forge.log(repository, None, second, limit=1)) == 1
        assert await forge.changed_files(repository, first, second) == ["a"]
        with pytest.raises(CommitGoneError):
            await forge.log(repository, "1" * 40, second)

    asyncio.run(main())


@pytest.mark.parametrize("seconds", ["0", "4102444800", "99999999999999"])
def test_a_commit_may_claim_any_date(origin: Origin, repository: Repository, forge: GitForge, seconds: str) -> None:
    base = origin.commit({"a": "1", "b": "1"})
    head = branch(origin, base, {"a": "2"})
    raw = origin.git("cat-file", "commit", head).split("\n")
    raw = [f"{line.rsplit(' ', 2)[0]} {seconds} +0000" if line.startswith("committer") else line for line in raw]
    (origin.path / "raw").write_text("\n".join(raw) + "\n")
    head = origin.git("hash-object", "-t", "commit", "-w", "--literally", "raw")
    (origin.path / "raw").unlink()
    origin.git("update-ref", "refs/heads/odd", head)
    base = origin.commit({"b": "2"})

    async def main() -> None:
        await fetch(forge, repository, head, base)
        assert (await forge.info(repository, head)).committed_at.tzinfo is UTC
        merged = await forge.merge(repository, head, base)
        assert await forge.is_ancestor(repository, head, merged)

    asyncio.run(main())


def test_file_names_in_every_byte(origin: Origin, repository: Repository, forge: GitForge) -> None:
    before = origin.commit({"plain": "1"})
    Path(bytes(origin.path).decode(), "tab\there").write_text("x")
    with open(bytes(origin.path) + b"/caf\xe9\nnew line", "wb") as file:
        file.write(b"x")
    after = origin.commit_all()

    async def main() -> None:
        await fetch(forge, repository, after)
        assert await forge.changed_files(repository, before, after) == ["caf\\xe9\nnew line", "tab\there"]

    asyncio.run(main())


def test_ancestors(origin: Origin, repository: Repository, forge: GitForge) -> None:
    old = origin.commit({"a": "1"})
    new = origin.commit({"a": "2"})

    async def main() -> None:
        assert not await forge.is_ancestor(repository, old, new)  # nothing is known yet
        await fetch(forge, repository, new)
        assert await forge.is_ancestor(repository, old, new)
        assert await forge.is_ancestor(repository, new, new)
        assert not await forge.is_ancestor(repository, new, old)
        assert not await forge.is_ancestor(repository, "1" * 40, new)

    asyncio.run(main())


def test_a_merge_is_the_same_commit_wherever_it_is_made(
    origin: Origin, repository: Repository, forge: GitForge, tmp_path: Path
) -> None:
    base = origin.commit({"a": "1", "b": "1"})
    head = branch(origin, base, {"a": "2"})
    base = origin.commit({"b": "2"})

    async def main() -> None:
        merged = []
        for each in (forge, forge, GitForge(tmp_path / "other")):
            await fetch(each, repository, head, base)
            merged.append(await each.merge(repository, head, base))
        assert len(set(merged)) == 1
        info = await forge.info(repository, merged[0])
        assert (info.author, info.subject) == ("Seamless", f"Merge {head[:7]} into {base[:7]}")
        assert info.committed_at == (await forge.info(repository, head)).committed_at
        assert await forge.changed_files(repository, base, merged[0]) == ["a"]
        assert await forge.changed_files(repository, head, merged[0]) == ["b"]

    asyncio.run(main())


def test_a_merge_that_needs_none(origin: Origin, repository: Repository, forge: GitForge) -> None:
    old = origin.commit({"a": "1"})
    new = origin.commit({"a": "2"})

    async def main() -> None:
        await fetch(forge, repository, new)
        assert await forge.merge(repository, new, old) == new
        assert await forge.merge(repository, old, new) == new
        with pytest.raises(CommitGoneError):
            await forge.merge(repository, "1" * 40, new)

    asyncio.run(main())


def test_conflicts_name_their_files(origin: Origin, repository: Repository, forge: GitForge) -> None:
    names = ["both", "gone", "sub/größe", *(f"many/{number:02}" for number in range(10))]
    base = origin.commit(dict.fromkeys(names, "1") | {"fine": "1"})
    head = branch(origin, base, dict.fromkeys(names, "2") | {"fine": "2"})
    base = origin.commit({name: "3" for name in names if name != "gone"} | {"gone": None})

    async def main() -> None:
        await fetch(forge, repository, head, base)
        with pytest.raises(
            MergeConflictError, match=r"does not merge onto .*: conflicts in both, gone, many/00"
        ) as error:
            await forge.merge(repository, head, base)
        assert error.value.files == tuple(sorted(names))
        assert error.value.message.endswith("and 3 more")

    asyncio.run(main())


def test_merge_attributes_of_the_base_count(origin: Origin, repository: Repository, forge: GitForge) -> None:
    base = origin.commit({"CHANGES": "one\n", ".gitattributes": "CHANGES merge=union\n"})
    head = branch(origin, base, {"CHANGES": "one\nfrom the branch\n"})
    base = origin.commit({"CHANGES": "one\nfrom main\n"})

    async def main() -> None:
        await fetch(forge, repository, head, base)
        merged = await forge.merge(repository, head, base)
        assert await forge.changed_files(repository, base, merged) == ["CHANGES"]

    asyncio.run(main())


def test_unrelated_histories_do_not_merge(origin: Origin, repository: Repository, forge: GitForge) -> None:
    base = origin.commit({"a": "1"})
    origin.git("checkout", "--quiet", "--orphan", "other")
    head = origin.commit({"b": "1"})

    async def main() -> None:
        await fetch(forge, repository, head, base)
        with pytest.raises(StageError, match="have no commit in common"):
            await forge.merge(repository, head, base)

    asyncio.run(main())


def test_what_two_branches_share(origin: Origin, repository: Repository, forge: GitForge) -> None:
    base = origin.commit({"a": "1"})
    head = branch(origin, base, {"b": "1"})
    main = origin.commit({"c": "1"})
    origin.git("checkout", "--quiet", "--orphan", "other")
    stranger = origin.commit({"d": "1"})

    async def check() -> None:
        await fetch(forge, repository, head, main, stranger)
        assert await forge.merge_base(repository, main, head) == base
        assert await forge.merge_base(repository, head, base) == base
        assert await forge.merge_base(repository, main, stranger) is None

    asyncio.run(check())


def test_only_what_a_branch_or_tag_of_the_remote_contains_is_its_own(
    origin: Origin, repository: Repository, forge: GitForge
) -> None:
    base = origin.commit({"a": "1"})
    tagged = branch(origin, base, {"b": "1"})
    origin.git("tag", "-a", "-m", "a tag", "v1", tagged)
    origin.git("branch", "-D", "feature")
    stranger = branch(origin, base, {"c": "1"})
    origin.git("update-ref", "refs/pull/1/head", stranger)
    origin.git("branch", "-D", "feature")

    async def main() -> None:
        await forge.fetch(repository, stranger, "refs/pull/1/head")
        assert await forge.is_on_a_branch(repository, base)
        assert await forge.is_on_a_branch(repository, tagged)
        assert not await forge.is_on_a_branch(repository, stranger)
        assert not await forge.is_on_a_branch(repository, "1" * 40)
        origin.git("tag", "-d", "v1")
        assert not await forge.is_on_a_branch(repository, tagged)

    asyncio.run(main())
