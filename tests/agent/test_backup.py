"""Backups: whole or refused, and restored without losing what was there."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamless.agent import backup
from seamless.agent.backup import RESTORED, RESTORING, BackupError, check_whole, restore, verify
from seamless.agent.logs.packed import packing
from seamless.agent.store import SCHEMA_VERSION, Store, StoreError, database
from seamless.errors import ConfigError, RefusedError, SeamlessError, UnavailableError, UsageError


def make(folder: Path, *, note: str = "first") -> Path:
    """A data directory with a database, a log and an installation's id."""
    (folder / "work").mkdir(parents=True)
    (folder / "logs/web/web-1").mkdir(parents=True)
    (folder / "logs/web/web-1/build.log").write_bytes(b"#1 building\n" * 1000)
    (folder / "logs/web/web-1/build.idx").write_bytes(os.urandom(3000))
    (folder / "logs/web/web-1/empty.log").touch()
    (folder / "installation").write_text("0a1b2c3d")
    (folder / "config.toml").write_text("# ours\n")

    async def fill() -> None:
        store = await Store.open(folder / "seamless.db")
        await store.events.add("action", note)
        await store.close()

    asyncio.run(fill())
    return folder


def back_up(data: Path, file: Path) -> Path:
    async def take() -> Path:
        store = await Store.open(data / "seamless.db")
        try:
            return await backup.snapshot(store, data)
        finally:
            await store.close()

    snapshot = asyncio.run(take())
    file.write_bytes(b"".join(backup.stream(snapshot, data, data / "config.toml")))
    snapshot.unlink()
    return file


def test_a_log_that_is_packed_while_the_backup_is_made_is_in_it(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    log = data / "logs/web/web-1/build.log"
    content = log.read_bytes()
    (log.parent / "build.idx.part").write_bytes(b"cut")
    blocks = backup.stream(data / "seamless.db", data, data / "config.toml")
    first = next(blocks)
    for _ in packing(log):
        pass
    file = tmp_path / "backup.tar.gz"
    file.write_bytes(first + b"".join(blocks))
    with tarfile.open(file) as archive:
        kept = {member.name: member for member in archive}
        assert {"logs/web/web-1/build.log.gz", "logs/web/web-1/build.idx"} <= kept.keys()
        assert not {"logs/web/web-1/build.log", "logs/web/web-1/build.idx.part"} & kept.keys()
        packed = archive.extractfile(kept["logs/web/web-1/build.log.gz"])
        assert packed is not None
        assert gzip.decompress(packed.read()) == content
    assert verify(file, tmp_path).files.keys() >= {"logs/web/web-1/build.log.gz"}


def notes(data: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(data / "seamless.db")) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM events ORDER BY id")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    return back_up(make(folder / "data"), folder / "b.tar.gz")


def test_all_that_counts_is_in_it_and_comes_back(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    file = back_up(data, tmp_path / "b.tar.gz")
    manifest = verify(file, tmp_path)
    assert manifest.installation == "0a1b2c3d"
    assert set(manifest.files) == {
        "seamless.db",
        "installation",
        "config.toml",
        "logs/web/web-1/build.log",
        "logs/web/web-1/build.idx",
        "logs/web/web-1/empty.log",
    }
    new = tmp_path / "new"
    new.mkdir()
    restore(file, new, force=False)
    assert notes(new) == ["first"]
    for name in ("installation", "logs/web/web-1/build.log", "logs/web/web-1/build.idx", "logs/web/web-1/empty.log"):
        assert (new / name).read_bytes() == (data / name).read_bytes()
    assert sorted(path.name for path in new.iterdir()) == ["installation", "logs", "restored.json", "seamless.db"]
    assert (new / "seamless.db").stat().st_mode & 0o077 == 0


def test_over_live_data_only_on_somebody_s_word_and_nothing_is_lost(tmp_path: Path, made: Path) -> None:
    data = make(tmp_path / "data", note="newer")
    with pytest.raises(RefusedError, match="holds the data of an agent already"):
        restore(made, data, force=False)
    assert notes(data) == ["newer"]
    _, aside = restore(made, data, force=True)
    assert notes(data) == ["first"]
    assert aside is not None
    assert notes(aside) == ["newer"]
    assert (aside / "logs/web/web-1/build.log").exists()


SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def test_a_backup_that_lacks_only_its_end_is_refused_too(tmp_path: Path, made: Path) -> None:
    """All files are whole in it, and nobody can tell that it was cut but by gzip's own end."""
    whole = made.read_bytes()
    cut = tmp_path / "cut"
    for missing in range(1, 40):
        cut.write_bytes(whole[:-missing])
        with pytest.raises(BackupError, match="is no whole backup"):
            verify(cut, tmp_path)


@SHARED
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_backup_that_was_cut_short_is_refused_and_changes_nothing(tmp_path: Path, made: Path, share: float) -> None:
    whole = made.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: int(share * len(whole))])
    data = tmp_path / "data"
    if not data.exists():
        make(data, note="kept")
    with pytest.raises(BackupError, match="is no whole backup"):
        restore(cut, data, force=True)
    assert notes(data) == ["kept"]
    assert not (data / RESTORING).exists()
    assert not list(data.glob("restore-*"))


@SHARED
@given(st.data())
def test_a_byte_that_changed_is_noticed(tmp_path: Path, made: Path, data: st.DataObject) -> None:
    whole = bytearray(made.read_bytes())
    place = data.draw(st.integers(10, len(whole) - 9))
    whole[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / "changed"
    changed.write_bytes(whole)
    try:
        found = verify(changed, tmp_path)
    except SeamlessError:  # also one about a name that no disk takes
        return
    assert found == verify(made, tmp_path), "taken for whole, and not the same"


def repack(made: Path, file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with tarfile.open(made) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    change(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    file.write_bytes(gzip.compress(buffer.getvalue()))
    return file


def set_manifest(members: dict[str, bytes], **values: object) -> None:
    members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | values).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members.update({"../x": b""}), "holds ../x, which no backup does"),
        (lambda members: members.update({"/etc/x": b""}), "which no backup does"),
        (lambda members: members.update({"extra": b"x"}), "extra is not what it was"),
        (lambda members: members.pop("logs/web/web-1/build.log"), "build.log is not what it was"),
        (lambda members: members.pop("manifest.json"), "its list of files is missing"),
        (lambda members: members.update({"manifest.json": b"[]"}), "is no whole backup"),
        (
            lambda members: set_manifest(members, format=2),
            r"made by a newer Seamless .* \(format 2, this one knows 1\)",
        ),
        (lambda members: set_manifest(members, schema=1), "is of another version than it says"),
    ],
)
def test_what_is_no_backup_of_ours(
    tmp_path: Path, made: Path, change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    with pytest.raises(BackupError, match=said):
        verify(repack(made, tmp_path / "x", change), tmp_path)
    assert not (tmp_path.parent / "x").exists()


def test_a_newer_version_s_backup_is_refused(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "SCHEMA_VERSION", SCHEMA_VERSION - 1)
    with pytest.raises(BackupError, match="was made by a newer Seamless"):
        restore(made, tmp_path, force=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_no_damaged_backup(tmp_path: Path) -> None:
    for file, why in ((tmp_path / "none", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(UsageError, match=f"{file} cannot be read: {why}"):
            restore(file, tmp_path, force=False)
    assert list(tmp_path.iterdir()) == []


def test_the_agent_s_user_is_told_how_to_get_at_somebody_else_s_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(UsageError, match="b c cannot be read: permission denied") as caught:
        backup.unpack(tmp_path / "b c", tmp_path)
    assert caught.value.hint == f"sudo chown {os.geteuid()} '{tmp_path}/b c'"


def test_a_restore_that_was_cut_short_is_told_by_the_agent_and_can_be_done_again(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path / "data", note="before")
    real = Path.rename

    def die(self: Path, target: Path) -> Path:
        if self.name == "seamless.db" and self.parent.name.startswith("restore-"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        restore(made, data, force=True)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="was cut short; what was there before is in") as caught:
        check_whole(data)
    assert caught.value.hint == f"seamless restore --force {made}"
    (aside,) = data.glob("before-restore-*")
    assert notes(aside) == ["before"]
    restore(made, data, force=True)
    check_whole(data)
    assert notes(data) == ["first"]


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "data", note="kept")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space left on device") as caught:
        restore(made, data, force=True)
    assert caught.value.hint == "nothing was changed; free some space there"
    assert notes(data) == ["kept"]
    assert not list(data.glob("restore-*"))


def test_the_mark_of_a_restore_is_never_half_there(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "data", note="before")
    seen: list[str] = []
    real = os.fsync

    def die(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        seen.append(Path(name).name)
        if seen[-1] == RESTORING:
            raise KeyboardInterrupt
        real(descriptor)

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        restore(made, data, force=True)
    assert seen[-1] == RESTORING
    check_whole(data)
    assert notes(data) == ["before"]


@pytest.fixture
def two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of the version before, and a program of the next one."""
    data = make(tmp_path / "data", note="old")
    newest = ("9999.sql", "CREATE TABLE of_tomorrow (x TEXT) STRICT;")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, newest))
    return data


def test_before_a_migration_a_backup_is_made_that_can_be_restored(two_versions: Path) -> None:
    path = two_versions / "seamless.db"

    async def migrate() -> None:
        store = await Store.open(path)
        await store.events.add("action", "new")
        await store.close()

    asyncio.run(migrate())
    (kept,) = two_versions.glob("seamless.db.schema-*")
    asyncio.run(migrate())
    assert list(two_versions.glob("seamless.db.schema-*")) == [kept], "no migration, no backup"
    assert notes(two_versions) == ["old", "new", "new"]
    restore(kept, two_versions, force=True)
    assert notes(two_versions) == ["old"]
    assert (two_versions / RESTORED).exists()


def test_without_room_for_that_backup_nothing_is_migrated(two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "_seal", full)
    with pytest.raises(StoreError, match="no backup can be made before it is changed: database or disk is full"):
        asyncio.run(Store.open(two_versions / "seamless.db"))
    assert notes(two_versions) == ["old"]
    assert sorted(
        path.name for path in two_versions.glob("*seamless.db*") if "wal" not in path.name and "shm" not in path.name
    ) == ["seamless.db"]
