"""Agent and git die together, at any moment; the next agent's call leaves exactly what an undisturbed one does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seamless.errors import InterruptedStageError
from seamless.forges import Repository
from seamless.forges.git import GitForge
from seamless.forges.remotes import parse

from .origins import Origin, contents, git

AGENT = """
import asyncio, pathlib, sys
from seamless.forges import Repository
from seamless.forges.git import GitForge
mirrors, url, do, *arguments = sys.argv[1:]
forge = GitForge(pathlib.Path(mirrors))
async def main():
    await forge.is_ancestor(Repository(url), "0" * 40, "0" * 40)
    print("ready", flush=True)
    if do == "fetch":
        await forge.fetch(Repository(url), arguments[0], "refs/heads/many")
    else:
        await forge.checkout(Repository(url), arguments[0], *map(pathlib.Path, arguments[1:]))
    print("done", flush=True)
asyncio.run(main())
"""


def kill_agent(after_s: float, *arguments: object) -> bool:
    """Has an agent do this and kills it so long after it began; whether it was still at work."""
    command = [sys.executable, "-c", AGENT, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "ready\n"
        time.sleep(after_s)
        agent.kill()
        return agent.stdout.read() == ""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    origin = Origin(tmp_path_factory.mktemp("origin") / "origin")
    for content in ("a", "b", "c"):
        origin.git("tag", content, origin.commit_many(800, content))
    return origin


def test_killed_in_a_checkout(origin: Origin, forge: GitForge, tmp_path: Path) -> None:
    repository = Repository(origin.url)
    a, b, c = (origin.git("rev-parse", tag) for tag in "abc")
    mirrors, files, index = tmp_path / "data" / "mirrors", tmp_path / "tree" / "files", tmp_path / "tree" / "index"
    expected = {commit: contents(origin.clone(commit, tmp_path / "clone")) for commit in (a, b)}
    asyncio.run(forge.fetch(repository, c, "refs/heads/many"))
    for commit in (a, b):
        asyncio.run(forge.fetch(repository, commit, commit))
    asyncio.run(forge.checkout(repository, a, files, index))
    interrupted = 0
    for number, after_s in enumerate((0.01, 0.03, 0.06, 0.1)):
        interrupted += kill_agent(after_s, mirrors, origin.url, "checkout", c, files, index)
        commit = (b, a)[number % 2]
        asyncio.run(forge.checkout(repository, commit, files, index))
        time.sleep(0.05)  # for whatever the killed one might still write
        assert contents(files) == expected[commit]
    assert interrupted
    assert sorted(path.name for path in files.parent.iterdir()) == ["files", "index", "index.commit"]


def test_killed_in_a_fetch(origin: Origin, forge: GitForge, tmp_path: Path) -> None:
    repository = Repository(origin.url)
    commit = origin.git("rev-parse", "c")
    mirrors = tmp_path / "data" / "mirrors"
    interrupted = sum(kill_agent(after_s, mirrors, origin.url, "fetch", commit) for after_s in (0, 0.01, 0.03))
    assert interrupted
    asyncio.run(forge.fetch(repository, commit, "refs/heads/many"))
    mirror = mirrors / f"{parse(repository).key}.git"
    git(mirror, "fsck", "--strict", "--no-dangling")
    assert asyncio.run(forge.checkout(repository, commit, tmp_path / "files", tmp_path / "index")) == 800
    assert [path.name for path in mirrors.iterdir()] == [mirror.name]


def test_only_git_is_killed(origin: Origin, forge: GitForge, tmp_path: Path) -> None:
    """By the kernel, for want of memory, say: the call fails and can be repeated."""
    repository = Repository(origin.url)
    commit = origin.git("rev-parse", "a")

    async def main() -> None:
        await forge.fetch(repository, commit, commit)
        call = asyncio.create_task(forge.checkout(repository, commit, tmp_path / "files", tmp_path / "index"))
        await asyncio.to_thread(kill_child, b"read-tree")
        with pytest.raises(InterruptedStageError, match="git was killed"):
            await call
        await forge.checkout(repository, commit, tmp_path / "files", tmp_path / "index")

    asyncio.run(main())
    assert contents(tmp_path / "files") == contents(origin.clone(commit, tmp_path / "clone"))


def kill_child(argument: bytes) -> None:
    """Kills the first child of this process that has this in its command line."""
    while not (found := [pid for pid in children() if argument in command_line(pid)]):
        time.sleep(0.001)
    os.kill(found[0], signal.SIGKILL)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    "leftover",
    [
        "packed-refs.lock",
        "HEAD.lock",
        "config.lock",
        "shallow.lock",
        "refs/seamless/heads/main.lock",
        "refs/seamless/commits/LOCKED",
        "objects/pack/tmp_pack_AbCdEf",
        "gc.pid",
    ],
)
def test_what_a_killed_git_leaves_is_in_nobodys_way(tmp_path: Path, forge: GitForge, leftover: str) -> None:
    origin = Origin(tmp_path / "origin")
    repository = Repository(origin.url)
    first = origin.commit({"a": "1"})
    second = origin.commit({"a": "2"})
    mirror = tmp_path / "data" / "mirrors" / f"{parse(repository).key}.git"

    async def main() -> None:
        await forge.fetch(repository, first, "refs/heads/main")
        path = mirror / leftover
        if path.name == "LOCKED":
            (kept,) = path.parent.iterdir()
            path = kept.with_name(f"{kept.name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1234567 host")
        await forge.fetch(repository, second, "refs/heads/main")
        await forge.resolve(repository, second[:8])
        await forge.maintain(repository)
        assert not path.exists()

    asyncio.run(main())
