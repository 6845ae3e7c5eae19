"""Disks that fill up, small ones of our own: new work is refused in time and told, and goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import DOCKERFILE, Shop
from faults.disks import Filler, small_disk
from harness.agents import Agent, stage_of, stages
from harness.engine import import_busybox
from harness.invariants import assert_accounted_for
from harness.private_engine import needs_private_engine, private_engine
from harness.repositories import Repository
from seamless.client import Client
from seamless.errors import UnavailableError
from seamless.transitions import RUN_ENDED

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.getuid() != 0, reason="mounts small disks"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def full_shop(tmp_path: Path, busybox_image: str) -> Iterator[tuple[Shop, Filler]]:
    """A shop whose data directory is a disk of 64 MiB."""
    repository = Repository(tmp_path / "web")
    repository.commit({"Dockerfile": DOCKERFILE.format(image=busybox_image)})
    agent = Agent(tmp_path, busybox_image)
    with small_disk(agent.data_dir, "64m"):
        try:
            yield Shop(agent, repository), Filler(agent.data_dir)
        finally:
            agent.finish(clean=False)


def test_the_disk_of_the_data_directory(full_shop: tuple[Shop, Filler], tmp_path: Path) -> None:
    shop, filler = full_shop
    agent, client = shop.agent, shop.agent.client
    go_on = tmp_path / "go-on"  # not on that disk
    go_on.touch()
    shop.start(
        f"install = 'echo begun; until grep -q prepare {go_on}; do sleep 0.1; done'\n"
        f"unit_test = 'echo begun; until grep -q test {go_on}; do sleep 0.1; done; echo ended'\n"
        f"files = {{ '{go_on}' = '{go_on}' }}",
        agent="min_free = '24m'",
    )

    # Too little room: what has begun waits before its next stage, new work is refused, and both are told.
    client.start_run("web", checks=True)
    agent.wait_log("web-1", "prepare", "begun")
    filler.leave(8 * 2**20)
    refused = agent.cli("run", "web", "--checks")
    assert refused.returncode == 1, refused.stderr
    assert f"no new work is taken: the data directory ({agent.data_dir}) has " in refused.stderr
    assert "min_free" in refused.stderr
    assert "no new work" in agent.cli("agent", "status").stdout
    saved = agent.cli("backup", str(tmp_path / "short.tar.gz"))  # which is what one makes before one clears up
    assert saved.returncode == 0, saved.stderr
    with small_disk(tmp_path / "target", "4k"):
        told = agent.cli("backup", str(tmp_path / "target/b.tar.gz"))
        assert told.returncode == 1
        assert (
            "cannot be written: No space left on device. Nothing of it is left; name a file on another" in told.stderr
        )
        assert list((tmp_path / "target").iterdir()) == []
    go_on.write_text("prepare")
    agent.wait_stage("web-1", "prepare", {"success"})
    while not (waits_for := stage_of(client.run("web-1"), "unit_test")["waits_for"]):
        assert client.run("web-1")["state"] == "in_progress"
    assert waits_for.startswith(f"room: the data directory ({agent.data_dir}) has ")
    filler.go()
    assert client.version()["trouble"] == []

    # Room again: it goes on by itself. Then no room at all, in the middle of a stage.
    agent.wait_log("web-1", "unit_test", "begun")
    filler.leave(0)
    with pytest.raises(UnavailableError, match="cannot be used now: database or disk is full") as full:
        _write_until_refused(client)
    assert full.value.hint is not None
    told = agent.cli("backup", str(tmp_path / "full.tar.gz"))
    assert (told.returncode, "and a copy of the database needs" in told.stderr) == (1, True), told.stderr
    assert sorted(path.name for path in tmp_path.glob("*.tar.gz")) == ["short.tar.gz"]
    assert agent.cli("gc").returncode == 0
    assert client.run("web-1")["state"] == "in_progress"
    go_on.write_text("prepare, test")
    while "goes on then: " not in agent.said():  # the stage has ended, and that cannot be stored
        assert client.run("web-1")["state"] == "in_progress"
    filler.go()
    run = agent.wait_run("web-1", RUN_ENDED)
    assert run["state"] == "success", (stages(run), agent.said())
    assert stage_of(run, "unit_test")["attempt"] == 1
    assert [line for line in agent.read_log("web-1", "unit_test").splitlines() if "ed" in line[:5]] == ["ended"]
    kinds = [event["name"] for event in client.events(kind="agent")]
    assert kinds[:2] == ["no_room", "room"]
    assert agent.run("web", checks=True)["state"] == "success"
    assert_accounted_for(agent)


def test_the_disk_of_the_trees(tmp_path: Path, busybox_image: str) -> None:
    repository = Repository(tmp_path / "web")
    repository.commit({"Dockerfile": DOCKERFILE.format(image=busybox_image), "large": "x" * 2**21})
    agent = Agent(tmp_path, busybox_image)
    agent.data_dir.mkdir(mode=0o700)
    trees = agent.data_dir / "trees"
    with small_disk(trees, "1m"):
        try:
            shop = Shop(agent, repository)
            shop.start("unit_test = 'wc -c <large'")
            agent.client.start_run("web", checks=True)
            agent.wait_log("web-1", "prepare", "waiting for room: ")
            subprocess.run(["mount", "-o", "remount,size=64m", str(trees)], check=True)
            run = agent.wait_run("web-1", RUN_ENDED)
            assert run["state"] == "success", (stages(run), agent.said())
            assert stage_of(run, "prepare")["attempt"] == 1
            assert agent.read_log("web-1", "prepare").count("waiting for room: git cannot write to ") == 1
            assert "2097152" in agent.read_log("web-1", "unit_test")
        finally:
            agent.finish(clean=False)


def _write_until_refused(client: Client) -> None:
    for _ in range(20):
        client.hold("web", "x" * 4000)


@pytest.mark.xdist_group("private engine")
@needs_private_engine
def test_the_disk_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "256m"), private_engine(data=disk) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        repository = Repository(tmp_path / "web")
        image = import_busybox()
        flood = DOCKERFILE.format(image=image) + "RUN dd if=/dev/zero of=/flood bs=1M\n"
        repository.commit({"Dockerfile": flood})
        agent = Agent(tmp_path, image)
        try:
            agent.configure(
                f'[services.web]\nrepo = "{repository.path}"\nuse_staging = false', agent="min_free = '64m'"
            )
            agent.start()
            failed = agent.run("web")
            assert failed["state"] == "failure"
            assert "exit code 1" in (failed["reason"] or ""), failed["reason"]
            assert "No space left on device" in agent.read_log("web-1", "build")

            repository.commit({"Dockerfile": DOCKERFILE.format(image=image)})
            filler = Filler(disk)
            filler.leave(32 * 2**20)
            with pytest.raises(
                UnavailableError, match=r"no new work is taken: the Docker Engine \(.*\) has 3[0-9] MiB"
            ):
                agent.client.start_run("web")
            filler.go()
            assert agent.run("web")["state"] == "awaiting_approval"
            agent.client.reject("web", "seen")
            assert_accounted_for(agent)
        finally:
            agent.finish(clean=False)
