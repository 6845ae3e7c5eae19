"""A kept tree is exactly what a developer's clone of that commit is, whatever was there before."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless.errors import StageError
from seamless.forges import CommitGoneError, MirrorDamagedError, Repository
from seamless.forges.git import GitForge
from seamless.forges.remotes import parse

from .origins import Origin, contents


class Tree:
    """A kept tree of one repository, and what it should be."""

    def __init__(self, forge: GitForge, origin: Origin, folder: Path) -> None:
        self.forge = forge
        self.origin = origin
        self.repository = Repository(origin.url)
        self.files = folder / "files"
        self.index = folder / "index"

    def show(self, commit: str) -> int:
        """Checks the commit out and compares; returns the number of files changed."""

        async def main() -> int:
            await self.forge.fetch(self.repository, commit, commit)
            return await self.forge.checkout(self.repository, commit, self.files, self.index)

        changed = asyncio.run(main())
        assert contents(self.files) == contents(self.origin.clone(commit, self.files.with_name("clone")))
        return changed


@pytest.fixture
def tree(forge: GitForge, origin: Origin, tmp_path: Path) -> Tree:
    return Tree(forge, origin, tmp_path / "data" / "trees" / "cart")


def test_only_what_changed_is_written(tree: Tree) -> None:
    first = tree.origin.commit({"a": "1", "b/c": "1", "b/d": "1"})
    second = tree.origin.commit({"a": "2", "b/d": None, "e": "1"})
    assert tree.show(first) == 3
    untouched = (tree.files / "b" / "c").stat()
    assert tree.show(second) == 3
    assert tree.show(second) == 0
    assert tree.show(first) == 3
    assert (tree.files / "b" / "c").stat().st_ino == untouched.st_ino
    assert (tree.files / "b" / "c").stat().st_mtime_ns == untouched.st_mtime_ns


def test_modes_links_folders_and_names_in_every_byte(tree: Tree) -> None:
    root = tree.origin.path
    commits = [tree.origin.commit({"thing": "a file", "run": "#!/bin/sh\n", "-dash": "x", "space in it": "x"})]
    (root / "run").chmod(0o755)
    (root / "thing").unlink()
    (root / "link").symlink_to("run")
    (root / "dangling").symlink_to("/nowhere/at/all")
    commits.append(tree.origin.commit({"thing/is": "a folder", "thing/deep/er": "x"}))
    shutil.rmtree(root / "thing")
    (root / "thing").symlink_to("link")
    (root / "link").unlink()
    with open(bytes(root) + b"/\xff\xfe\n\x01", "wb") as file:
        file.write(bytes(range(256)))
    commits.append(tree.origin.commit({"link": "now a file", "größe/Ω": "x"}))
    (root / "run").chmod(0o644)
    commits.append(tree.origin.commit({"thing": None}))
    for commit in [*commits, *reversed(commits), commits[2], commits[0]]:
        tree.show(commit)


def test_folders_and_files_do_not_depend_on_the_agents_umask(tree: Tree) -> None:
    commit = tree.origin.commit({"a/b": "1"})
    before = os.umask(0o077)
    try:
        asyncio.run(tree.forge.fetch(tree.repository, commit, commit))
        asyncio.run(tree.forge.checkout(tree.repository, commit, tree.files, tree.index))
    finally:
        os.umask(before)
    modes = [oct((tree.files / name).stat().st_mode & 0o777) for name in (".", "a", "a/b")]
    assert modes == ["0o755", "0o755", "0o644"]


def test_attributes_work_as_in_a_clone_even_when_only_they_change(tree: Tree) -> None:
    first = tree.origin.commit({"a.txt": "one\ntwo\n", "b.bin": b"\x00\n", "id": "$Id$\n", "sub/c.txt": "x\n"})
    second = tree.origin.commit({".gitattributes": "*.txt eol=crlf\nid ident\n*.bin filter=lfs\n"})
    third = tree.origin.commit({"sub/.gitattributes": "*.txt -text\n", ".gitattributes": "*.txt text eol=crlf\n"})
    for commit in (first, second, third, second, first):
        tree.show(commit)
    tree.show(second)
    assert (tree.files / "a.txt").read_bytes() == b"one\r\ntwo\r\n"


def test_filters_of_the_host_are_not_run(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    proof = tmp_path / "proof"
    (home / ".gitconfig").write_text(f'[filter "lfs"]\n\tsmudge = touch {proof}\n\trequired = true\n')
    monkeypatch.setenv("HOME", str(home))
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    tree.show(tree.origin.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": pointer}))
    assert (tree.files / "a.bin").read_text() == pointer
    assert not proof.exists()


def test_submodules_become_empty_folders_and_go_again(tree: Tree) -> None:
    plain = tree.origin.commit({"a": "1"})
    tree.origin.git("update-index", "--add", "--cacheinfo", f"160000,{plain},vendor/lib")
    tree.origin.git("commit", "--quiet", "-m", "a submodule")
    with_submodule = tree.origin.git("rev-parse", "HEAD")
    tree.origin.git("rm", "--quiet", "--cached", "vendor/lib")
    replaced = tree.origin.commit({"vendor/lib/file": "x"})
    for commit in (plain, with_submodule, replaced, with_submodule, plain):
        tree.show(commit)


def test_an_empty_commit_leaves_an_empty_folder(tree: Tree) -> None:
    full = tree.origin.commit({"a/b": "1"})
    empty = tree.origin.commit({"a/b": None})
    for commit in (full, empty, full):
        tree.show(commit)


def test_what_others_did_to_the_tree_is_undone(tree: Tree) -> None:
    first = tree.origin.commit({"a": "1", "b/c": "1", ".gitignore": "ignored\n"})
    second = tree.origin.commit({"a": "2"})
    tree.show(first)
    (tree.files / "a").write_text("tampered")
    (tree.files / "ignored").write_text("x")
    (tree.files / "b" / "c").unlink()
    (tree.files / "b" / "c").symlink_to("/etc")
    (tree.files / "new" / ".git").mkdir(parents=True)
    tree.show(first)
    (tree.files / "b" / "c").chmod(0o755)
    shutil.rmtree(tree.files / "b")
    (tree.files / "b").symlink_to("/etc")
    tree.show(second)


def test_what_an_interrupted_checkout_left_is_replaced(tree: Tree) -> None:
    first = tree.origin.commit({"a": "1", "b": "1"})
    second = tree.origin.commit({"a": "2", "b": "2"})
    tree.show(first)
    tree.index.with_name("index.commit").unlink()  # as it is while git writes
    tree.index.with_name("index.lock").write_text("of a git that was killed")
    (tree.files / "a").write_text("half")
    worker = os.open(tree.files, os.O_DIRECTORY)  # one that outlived its git, and goes on writing
    try:
        assert tree.show(second) == 2
        with pytest.raises(FileNotFoundError):
            os.open("b", os.O_WRONLY | os.O_CREAT, dir_fd=worker)
    finally:
        os.close(worker)
    tree.show(second)
    assert sorted(path.name for path in tree.files.parent.iterdir()) == ["clone", "files", "index", "index.commit"]


@pytest.mark.parametrize("damage", ["index", "index.commit", "files"])
def test_a_damaged_part_of_the_tree_is_made_anew(tree: Tree, damage: str) -> None:
    first = tree.origin.commit({"a": "1"})
    second = tree.origin.commit({"a": "2"})
    tree.show(first)
    path = tree.index.with_name(damage)
    shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"\0 garbage")
    tree.show(second)


def test_the_tree_stays_when_there_is_nothing_to_replace_it(tree: Tree) -> None:
    commit = tree.origin.commit({"a": "1"})
    tree.show(commit)
    with pytest.raises(CommitGoneError):
        asyncio.run(tree.forge.checkout(tree.repository, "1" * 40, tree.files, tree.index))
    assert (tree.files / "a").read_text() == "1"
    assert tree.show(commit) == 0


def test_a_tree_that_git_refuses_to_write_fails_the_stage(tree: Tree) -> None:
    tree.origin.commit({"config": "[core]\n\tfsmonitor = touch /tmp/x\n"})
    blob = tree.origin.git("rev-parse", "HEAD:config")
    inner = hash_tree(tree.origin, "100644 config\0", blob)
    commit = tree.origin.git("commit-tree", hash_tree(tree.origin, "40000 .git\0", inner), "-m", "hostile")
    tree.origin.git("update-ref", "refs/heads/hostile", commit)
    with pytest.raises(StageError, match=r"could not write the tree of .*invalid path '\.git/config'"):
        tree.show(commit)
    tree.show(tree.origin.git("rev-parse", "main"))


def hash_tree(origin: Origin, entry: str, target: str) -> str:
    """A tree with one entry that git itself would not make."""
    command = ["git", "-C", str(origin.path), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    return (
        subprocess.run(command, input=entry.encode() + bytes.fromhex(target), capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )


def test_a_damaged_mirror_is_made_anew(tree: Tree, tmp_path: Path) -> None:
    first = tree.origin.commit({"a": random.Random(1).randbytes(20_000)})
    tree.show(first)
    mirror = tmp_path / "data" / "mirrors" / f"{parse(tree.repository).key}.git"
    (pack,) = mirror.glob("objects/pack/*.pack")
    pack.chmod(0o644)
    good = pack.read_bytes()
    pack.write_bytes(good[:10_000] + b"\xff" * 100 + good[10_100:])
    shutil.rmtree(tree.files)
    with pytest.raises(MirrorDamagedError, match="is damaged"):
        tree.show(first)
    tree.show(first)
    (mirror / "HEAD").write_bytes(b"")  # a power failure
    tree.show(first)


NAMES = st.sampled_from(["a", "b", "a/a", "a/b", "b/a/a", ".gitattributes", "a/.gitattributes"])
FILES = st.one_of(
    st.tuples(st.sampled_from(["100644", "100755"]), st.sampled_from(["", "one\ntwo\n", "$Id$\n", "a\r\nb\n"])),
    st.tuples(st.just("120000"), st.sampled_from(["a", "../b", "/etc"])),
)
ATTRIBUTES = st.tuples(st.just("100644"), st.sampled_from(["* text=auto\n", "* eol=crlf\n", "a ident\n", "* -text\n"]))


@st.composite
def trees(draw: st.DrawFn) -> Mapping[str, tuple[str, str]]:
    """Files by name, none of which is a folder of another."""
    chosen: dict[str, tuple[str, str]] = {}
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        if not any(name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in chosen):
            chosen[name] = draw(ATTRIBUTES if name.endswith(".gitattributes") else FILES)
    return chosen


def commit_tree(origin: Origin, files: Mapping[str, tuple[str, str]]) -> str:
    parts = ["commit refs/heads/any\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nx\ndeleteall\n"]
    parts += [f"M {mode} inline {name}\ndata {len(body)}\n{body}\n" for name, (mode, body) in files.items()]
    command = ["git", "-C", str(origin.path), "fast-import", "--quiet", "--force"]
    subprocess.run(command, input="".join(parts).encode(), check=True)
    return origin.git("rev-parse", "refs/heads/any")


@settings(max_examples=6, deadline=None)
@given(st.lists(trees(), min_size=2, max_size=5))
def test_any_sequence_of_trees_is_checked_out_exactly(sequence: list[Mapping[str, tuple[str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        origin = Origin(Path(folder, "origin"))
        tree = Tree(GitForge(Path(folder, "mirrors")), origin, Path(folder, "tree"))
        for files in sequence:
            tree.show(commit_tree(origin, files))
