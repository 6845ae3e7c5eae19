from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from seamless.cli.tree import head_of, root_of, tar_of
from seamless.errors import UsageError


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "deleted").write_text("x")
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    (folder / "sub").mkdir()
    (folder / "sub/änd\nline").write_bytes(b"a" * 700_000)
    (folder / "linked").mkdir()
    (folder / "linked/file").write_text("x")
    os.symlink("/etc/passwd", folder / "link")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    return folder


def unpacked(root: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_of(root)))) as archive:
        return {entry.name: entry for entry in archive.getmembers()}


def test_the_tree_as_it_is_now(repo: Path, tmp_path: Path) -> None:
    (repo / "deleted").unlink()
    (repo / "ignored").write_text("secret")
    (repo / "untracked").write_text("new")
    (repo / "script").write_text("#!/bin/sh\nexit 1\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("not the repository's")
    (repo / "linked/file").unlink()
    (repo / "linked").rmdir()
    (repo / "linked").symlink_to(outside)
    found = unpacked(repo)
    assert set(found) == {".gitignore", "script", "sub/änd\nline", "link", "linked", "untracked"}
    assert (found["script"].mode, found["script"].size) == (0o755, 17)
    assert (found["untracked"].mode, found["untracked"].uid, found["untracked"].uname) == (0o644, 0, "")
    assert (found["link"].issym(), found["link"].linkname) == (True, "/etc/passwd")
    assert (found["linked"].issym(), found["linked"].linkname) == (True, str(outside))
    assert found["sub/änd\nline"].size == 700_000


def test_a_folder_of_a_repository_stands_for_the_whole(repo: Path) -> None:
    assert root_of(repo / "sub") == repo
    assert head_of(repo) == git(repo, "rev-parse", "HEAD")


def test_a_file_that_changes_while_it_is_read_keeps_the_archive_whole(repo: Path) -> None:
    chunks = []
    for chunk in tar_of(repo):
        chunks.append(chunk)
        if len(chunk) > 200_000:
            (repo / "sub/änd\nline").write_bytes(b"a")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        assert archive.getmember("sub/änd\nline").size == 700_000
        assert archive.getmember("script").size == 10


def test_conflicts_come_once(repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "other")
    (repo / "script").write_text("other\n")
    git(repo, "commit", "-q", "-am", "o")
    git(repo, "checkout", "-q", "-")
    (repo / "script").write_text("ours\n")
    git(repo, "commit", "-q", "-am", "p")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "other")
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_of(repo)))) as archive:
        assert archive.getnames().count("script") == 1


def test_without_a_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not in a git repository"):
        root_of(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        root_of(tmp_path / "none")
