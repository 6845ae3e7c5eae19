"""What stages leave for people: regular files of the workspace, bounded, and nothing else."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from seamless.stages import artifacts
from seamless.stages.artifacts import keep_artifacts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "workspace"
    for name, text in {"coverage/a.html": "a", "coverage/deep/b.html": "bb", "report.txt": "ccc"}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def keep(folder: Path, *patterns: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    archive = folder.parent / "logs/web-1/unit_test.artifacts.tar.gz"
    told = keep_artifacts(folder, patterns, archive)
    assert not archive.with_suffix(".part").exists()
    if not archive.exists():
        return told, {}
    with tarfile.open(archive) as files:
        return told, {one.name: files.extractfile(one).read() for one in files}  # type: ignore[union-attr]


def test_what_matches_is_kept_once(folder: Path) -> None:
    told, files = keep(folder, "coverage/**/*", "**/a.html")
    assert files == {"coverage/a.html": b"a", "coverage/deep/b.html": b"bb"}
    assert told == {"artifacts": {"files": 2, "bytes": 3, "note": None}}
    assert keep(folder) == ({}, files), "without patterns nothing is looked at"
    told, files = keep(folder, "nothing/*")
    assert (told["artifacts"]["note"], files) == ("nothing matches nothing/*", {})


def test_links_pipes_and_what_lies_outside_are_not_taken(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("host")
    (folder / "coverage/link").symlink_to(tmp_path / "outside/secret")
    (folder / "coverage/inner").symlink_to("a.html")
    (folder / "out").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "coverage/pipe")
    _, files = keep(folder, "coverage/*", "out/*", "**/*")
    assert set(files) == {"coverage/a.html", "coverage/deep/b.html", "report.txt"}


def test_how_much_is_bounded_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_BYTES", 3)
    told, files = keep(folder, "**/*")
    assert set(files) == {"coverage/a.html", "coverage/deep/b.html"}
    assert "only the first 2 files are kept" in told["artifacts"]["note"]


def test_a_disk_that_is_full_is_no_failing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    told, files = keep(folder, "**/*")
    assert told == {"artifacts": {"files": 0, "bytes": 0, "note": "they could not be kept: No space left on device"}}
    assert files == {}
