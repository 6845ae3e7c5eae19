"""Archives of strangers: what they may hold, and that nothing gets out of the folder."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from seamless.archives import unpack

FILE, FOLDER, LINK, HARD_LINK, DEVICE = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
)
Entry = tuple[bytes, str, str]
"""Kind, name, and content or target."""


def packed(entries: Iterable[Entry], *, mode: int = 0o644) -> tarfile.TarFile:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind, name, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, mode
            if kind in (LINK, HARD_LINK):
                entry.linkname = text
            elif kind == FILE:
                entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    buffer.seek(0)
    return tarfile.open(fileobj=buffer, mode="r:")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def test_files_folders_and_links_come_out_as_they_went_in(folder: Path) -> None:
    entries = [(FOLDER, ".", ""), (FOLDER, "empty", ""), (FILE, "./a/b/c", "text"), (LINK, "a/link", "/etc/passwd")]
    assert unpack(packed(entries), folder, links=True) == 2
    assert (folder / "empty").is_dir()
    assert (folder / "a/b/c").read_text() == "text"
    assert os.readlink(folder / "a/link") == "/etc/passwd"


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (0o755, 0o755), (0o4777, 0o755), (0o200, 0o644)])
def test_of_a_mode_only_the_executable_bit_counts(folder: Path, mode: int, expected: int) -> None:
    before = os.umask(0o022)
    try:
        unpack(packed([(FILE, "program", "")], mode=mode), folder, links=False)
    finally:
        os.umask(before)
    assert (folder / "program").stat().st_mode & 0o7777 == expected


@pytest.mark.parametrize(
    "entries",
    [
        [(FILE, "../outside/x", "")],
        [(FILE, "a/../../outside/x", "")],
        [(FILE, "/tmp/x", "")],
        [(FOLDER, "../outside/x", "")],
        [(FILE, "", "")],
        [(LINK, "out", "../outside"), (FILE, "out/x", "")],
        [(LINK, "out", "../outside"), (FOLDER, "out/x", "")],
        [(LINK, "out", "../outside"), (LINK, "out/x", "y")],
        [(FILE, "a", ""), (FILE, "a/b", "")],
        [(HARD_LINK, "x", "../outside")],
        [(DEVICE, "x", "")],
    ],
)
def test_nothing_is_written_outside(folder: Path, entries: list[Entry]) -> None:
    with pytest.raises((tarfile.TarError, OSError)):
        unpack(packed(entries), folder, links=True)
    assert list((folder.parent / "outside").iterdir()) == []
    assert {path.name for path in folder.parent.iterdir()} == {"outside", "folder"}


def test_links_are_refused_where_none_are_wanted(folder: Path) -> None:
    with pytest.raises(tarfile.TarError, match="'link' is neither a file nor a folder"):
        unpack(packed([(LINK, "link", "x")]), folder, links=False)
    assert list(folder.iterdir()) == []
