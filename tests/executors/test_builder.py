"""Which docker and which Compose are taken, among installed programs that are small scripts here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from seamless.errors import UnavailableError
from seamless.executors.builder import compose_cli, docker_cli, read_version

pytestmark = pytest.mark.fake

Install = Callable[..., str]

_OLD = 'case "$1 $2" in "version --format") echo 20.10.24+dfsg1; exit 1;; *) exit 1;; esac'
_NEW_WITHOUT_PLUGINS = 'case "$1 $2" in "version --format") echo 28.2.2;; *) exit 1;; esac'
_NEW = """case "$1 $2" in
"version --format") echo 28.2.2;;
"buildx version") echo github.com/docker/buildx v0.24.0;;
"compose version") echo v2.36.2-desktop.1;;
esac"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a program into the next folder on PATH; returns its path."""
    folders: list[Path] = []
    monkeypatch.setenv("PATH", str(tmp_path))

    def add(name: str, script: str) -> str:
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        folders.append(folder)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", ":".join(map(str, folders)))
        return str(folder / name)

    return add


def test_a_client_without_the_plugin_is_passed_over(install: Install) -> None:
    install("docker", _NEW_WITHOUT_PLUGINS)
    able = install("docker", _NEW)
    assert asyncio.run(docker_cli()) == able


def test_an_old_client_builds_by_itself_even_if_the_engine_is_down(install: Install) -> None:
    install("docker", _NEW_WITHOUT_PLUGINS)
    old = install("docker", _OLD)
    assert asyncio.run(docker_cli()) == old


def test_what_is_missing_is_named_and_looked_for_again(install: Install) -> None:
    with pytest.raises(UnavailableError, match="no docker client"):
        asyncio.run(docker_cli())
    unable = install("docker", _NEW_WITHOUT_PLUGINS)
    with pytest.raises(UnavailableError, match=f"{unable} cannot build"):
        asyncio.run(docker_cli())
    with pytest.raises(UnavailableError, match="no Docker Compose"):
        asyncio.run(compose_cli())
    Path(unable).write_text(f"#!/bin/sh\n{_NEW}\n")
    assert asyncio.run(docker_cli()) == unable


def test_the_plugin_comes_before_the_program_of_old(install: Install) -> None:
    program = install("docker-compose", 'echo "1.29.2"')
    install("docker", _NEW_WITHOUT_PLUGINS)
    assert asyncio.run(compose_cli()) == ([program], (1, 29, 2))
    plugin = install("docker", _NEW)
    assert asyncio.run(compose_cli()) == ([plugin, "compose"], (2, 36, 2))


@pytest.mark.parametrize(
    ("text", "version"),
    [("v2.29.1\n", (2, 29, 1)), ("1.29.2", (1, 29, 2)), ("28.2.2-rc.1", (28, 2, 2)), ("", ()), ("docker: what?", ())],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert read_version(text) == version
