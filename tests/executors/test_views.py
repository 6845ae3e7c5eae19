"""Copy-on-write views, on overlays and as copies: the same tests, since they must mean the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from seamless.errors import StageError
from seamless.executors import ContainerExit, Mount
from seamless.executors.chores import Chores
from seamless.executors.docker import DockerExecutor
from seamless.executors.views import Views

from .conftest import Place, finish

pytestmark = pytest.mark.engine

Run = Callable[[Callable[[DockerExecutor], Awaitable[None]]], None]


@pytest.fixture(params=["overlay", "copy"])
def run(request: pytest.FixtureRequest, place: Place, monkeypatch: pytest.MonkeyPatch) -> Run:
    async def chosen(views: Views) -> bool:
        return bool(request.param == "overlay")

    monkeypatch.setattr(Views, "can_overlay", chosen)
    return place.run


@pytest.fixture
def tree(place: Place) -> Path:
    files = place.data_dir / "trees" / "t1" / "files"
    (files / "folder").mkdir(parents=True)
    (files / "kept").write_text("kept\n")
    (files / "gone").write_text("gone\n")
    (files / "folder" / "file").write_text("file\n")
    (files / "link").symlink_to("kept")
    return files


async def view(executor: DockerExecutor, place: Place, key: str, *lower: Path) -> Mount:
    upper = _upper(place, key)
    return Mount(await executor.create_view(place.name(key), lower=lower, upper=upper, labels={}), "/workspace")


def test_this_host_mounts_overlays(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        mount = await view(executor, place, "probed", place.data_dir)
        assert place.api.inspect_volume(mount.source)["Options"]["type"] == "overlay"
        assert [each.name for each in await executor.find()] == [mount.source]

    place.run(body)
    assert sorted(each.name for each in place.data_dir.iterdir()) == ["overlay", "views"]


def test_the_trial_is_made_once_for_all_who_ask_and_for_the_next_agent(
    place: Place, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[str] = []
    run = Chores.run

    async def counted(chores: Chores, command: Sequence[str], mounts: Sequence[Mount]) -> None:
        trials.append(command[-1])
        await run(chores, command, mounts)

    monkeypatch.setattr(Chores, "run", counted)

    async def body(executor: DockerExecutor) -> None:
        await asyncio.gather(*(view(executor, place, key, tree) for key in "abc"))
        assert len(await executor.find()) == 3

    place.run(body)
    place.run(body)
    assert len(trials) == 1
    (place.data_dir / "overlay").write_text("another boot of the host")
    place.run(body)
    assert len(trials) == 2


def test_two_views_of_a_tree_do_not_see_each_other_and_the_tree_stays(place: Place, tree: Path, run: Run) -> None:
    async def body(executor: DockerExecutor) -> None:
        for key in ("a", "b"):
            mount = await view(executor, place, key, tree)
            script = f"rm gone; rm -r folder; cat link; echo {key} >>kept; echo {key} >new-{key}; ls"
            spec = place.spec(script, stage=key, mounts=(mount,), workdir="/workspace")
            assert await finish(executor, spec) == ContainerExit(0)
            assert spec.spool.read_text() == f"kept\nkept\nlink\nnew-{key}\n"
            assert (_upper(place, key) / f"new-{key}").read_text() == f"{key}\n"
        assert sorted(os.listdir(tree)) == ["folder", "gone", "kept", "link"]
        assert (tree / "kept").read_text() == "kept\n"

    run(body)


def test_a_view_of_a_view_keeps_what_was_deleted_deleted(place: Place, tree: Path, run: Run) -> None:
    async def body(executor: DockerExecutor) -> None:
        first = place.spec(
            "rm gone; mkdir made; echo 1 >made/one; echo changed >kept",
            stage="first",
            mounts=(await view(executor, place, "first", tree),),
            workdir="/workspace",
        )
        assert await finish(executor, first) == ContainerExit(0)
        second = place.spec(
            "cat kept made/one; test ! -e gone; echo 2 >made/two",
            stage="second",
            mounts=(await view(executor, place, "second", _upper(place, "first"), tree),),
            workdir="/workspace",
        )
        assert await finish(executor, second) == ContainerExit(0), second.spool.read_text()
        assert second.spool.read_text() == "changed\n1\n"
        assert not (_upper(place, "first") / "made" / "two").exists()

    run(body)


def test_a_copied_view_is_one_layer_that_needs_no_other(place: Place, tree: Path, run: Run) -> None:
    async def body(executor: DockerExecutor) -> None:
        written = await view(executor, place, "written", tree)
        await finish(
            executor, place.spec("rm gone; echo new >kept", stage="c1", mounts=(written,), workdir="/workspace")
        )
        target = place.data_dir / "caches" / "flat" / "upper"
        await executor.copy_view(written.source, target)
        await executor.copy_view(written.source, target)  # after an agent that was killed in between
        assert sorted(each.name for each in target.iterdir()) == ["folder", "kept", "link"]
        assert (target / "kept").read_text() == "new\n"
        above = await view(executor, place, "above", target, tree)
        shown = await finish(
            executor,
            place.spec("test ! -e gone; cat kept folder/file", stage="c2", mounts=(above,), workdir="/workspace"),
        )
        assert shown == ContainerExit(0)

    run(body)


def test_an_empty_view_is_not_filled_from_the_image(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor) -> None:
        empty = place.data_dir / "trees" / "empty"
        empty.mkdir(parents=True)
        mount = await view(executor, place, "empty", empty)
        spec = place.spec("echo /etc/*", mounts=(Mount(mount.source, "/etc"),))
        await finish(executor, spec)
        assert "passwd" not in spec.spool.read_text()

    run(body)


def test_a_view_is_made_once_and_anew_for_other_folders(place: Place, tree: Path, run: Run) -> None:
    async def body(executor: DockerExecutor) -> None:
        mount = await view(executor, place, "v", tree)
        made = place.api.inspect_volume(mount.source)
        (_upper(place, "v") / "mine").write_text("mine\n")
        assert await view(executor, place, "v", tree) == mount
        assert place.api.inspect_volume(mount.source) == made
        assert (_upper(place, "v") / "mine").exists()
        elsewhere = _upper(place, "elsewhere")
        await executor.create_view(mount.source, lower=[tree], upper=elsewhere, labels={})
        assert str(elsewhere) in str(place.api.inspect_volume(mount.source)["Options"])
        spec = place.spec("test -e kept; test ! -e mine", mounts=(mount,), workdir="/workspace")
        assert await finish(executor, spec) == ContainerExit(0)
        with pytest.raises(StageError, match="still used"):
            await executor.remove_view(mount.source)
        await executor.remove(spec.name)
        for _ in range(2):
            await executor.remove_view(mount.source)
        assert await executor.find() == []
        assert elsewhere.exists()

    run(body)


def test_a_volume_of_another_installation_stays(place: Place, tree: Path) -> None:
    async def body(executor: DockerExecutor) -> None:
        with pytest.raises(StageError, match="not this installation's"):
            await view(executor, place, "foreign", tree)
        await executor.remove_view(place.name("foreign"))
        assert place.api.inspect_volume(place.name("foreign"))

    place.api.create_volume(place.name("foreign"))
    try:
        place.run(body)
    finally:
        place.api.remove_volume(place.name("foreign"))


def test_a_user_owns_the_view_that_is_his(place: Place, tree: Path, run: Run) -> None:
    os.chown(tree / "folder" / "file", 1234, 5678)

    async def body(executor: DockerExecutor) -> None:
        mount = await view(executor, place, "owned", tree)
        await executor.own_view(mount.source, "app", place.image)
        script = "echo more >>kept; echo new >new; rm gone; stat -c %u:%g . kept folder/file"
        spec = place.spec(script, mounts=(mount,), workdir="/workspace", user="app")
        assert await finish(executor, spec) == ContainerExit(0), spec.spool.read_text()
        assert spec.spool.read_text() == "1234:5678\n" * 3
        assert (tree / "kept").stat().st_uid == os.getuid()
        numbers = await view(executor, place, "numbers", tree)
        await executor.own_view(numbers.source, "4321:8765", place.image)
        assert ((info := _upper(place, "numbers").stat()).st_uid, info.st_gid) == (4321, 8765)

    run(body)
    assert sorted(each.name for each in place.data_dir.iterdir()) == ["spool", "trees", "views"]


def test_a_copy_cut_short_is_made_again(place: Place, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(views: Views) -> bool:
        return False

    monkeypatch.setattr(Views, "can_overlay", never)
    half = _upper(place, "half")
    half.mkdir(parents=True)
    (half / "kept").write_text("ke")

    async def body(executor: DockerExecutor) -> None:
        await view(executor, place, "half", tree)
        assert (half / "kept").read_text() == "kept\n"
        assert (half / "link").is_symlink()

    place.run(body)


def test_only_what_is_below_the_data_directory_is_removed(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (place.data_dir / "link").symlink_to(outside)
    (place.data_dir / "views").mkdir()

    async def body(executor: DockerExecutor) -> None:
        for path in (outside, place.data_dir, place.data_dir / "link" / "file", place.data_dir / "views" / ".." / ".."):
            with pytest.raises(StageError, match="not below the data directory"):
                await executor.remove_paths([path])
        await executor.remove_paths([place.data_dir / "link", place.data_dir / "views", place.data_dir / "never"])
        assert os.listdir(place.data_dir) == []
        assert (outside / "file").exists()

    place.run(body)


_AGENT = """
import asyncio, sys
from pathlib import Path
from seamless.executors import ContainerSpec, Mount
from seamless.executors.docker import DockerExecutor

async def main(installation, data_dir, image):
    data_dir = Path(data_dir)
    executor = await DockerExecutor.connect(installation, data_dir, pool_size=0)
    tree, upper, spool = data_dir / "tree", data_dir / "views/v/upper", data_dir / "out"
    tree.mkdir(mode=0o755)
    (tree / "file").write_text("file")
    spool.touch()
    spool.chmod(0o622)
    name = f"seamless-{installation}-v"
    view = await executor.create_view(name, lower=[tree], upper=upper, labels={})
    script = "mkdir -p a/b; echo root >a/b/c; chmod 0500 a/b; cat file; rm file; echo >&2 done"
    spec = ContainerSpec(
        f"seamless-{installation}-s", image, script, spool, mounts=(Mount(view, "/workspace"),)
    )
    await executor.start(spec)
    print(await executor.wait(spec.name), spool.read_text(), end="")
    print((upper / "a/b").stat().st_uid)
    await executor.remove(spec.name)
    await executor.remove_view(name)
    await executor.remove_paths([data_dir / "views", tree])
    print(sorted(path.name for path in data_dir.iterdir()))
    await executor.close()

asyncio.run(main(*sys.argv[1:]))
"""


def _as_nobody(place: Place, *, groups: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as data_dir:  # pytest's folders are closed to other users
        os.chown(data_dir, 65534, 65534)
        identity = ["setpriv", "--reuid=65534", "--regid=65534", groups, "--"]
        agent = [sys.executable, "-c", _AGENT, place.installation, data_dir, place.image]
        return subprocess.run([*identity, *agent], capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user; as another user all tests are this one")
def test_an_agent_that_is_not_root_removes_what_root_made(place: Place) -> None:
    group = os.stat("/var/run/docker.sock").st_gid
    done = _as_nobody(place, groups=f"--groups={group}")
    assert done.returncode == 0, done.stderr
    verdict, owner, left = done.stdout.splitlines()
    assert verdict.startswith("ContainerExit(exit_code=0")
    assert verdict.endswith("filedone")
    assert (owner, left) == ("0", "['out', 'overlay']")


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_user_who_may_not_open_the_socket_is_told_what_to_do(place: Place) -> None:
    done = _as_nobody(place, groups="--clear-groups")
    assert done.returncode != 0
    assert "UnavailableError: this user may not open the Docker Engine's socket" in done.stderr


def _upper(place: Place, key: str) -> Path:
    return place.data_dir / "views" / key / "upper"
