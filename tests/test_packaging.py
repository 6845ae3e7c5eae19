"""The wheel: all that the program reads, nothing else, and a program that runs from it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/seamless"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert held == {line.removeprefix("src/") for line in listed.splitlines()}
    assert {"seamless/agent/store/migrations/0001.sql", "seamless/samples/seamless.toml", "seamless/py.typed"} <= held


def test_what_was_installed_from_it_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    script = (
        "import asyncio, sys, seamless\n"
        "from pathlib import Path\n"
        f"assert Path(seamless.__file__).is_relative_to({str(target)!r}), seamless.__file__\n"
        "from seamless.agent.store import Store\n"
        f"store = asyncio.run(Store.open(Path({str(tmp_path / 'x.db')!r})))\n"
        "asyncio.run(store.close())\n"
        "from seamless.cli.main import main\n"
        "sys.argv[1:] = ['--config', 'seamless.toml', 'init', '--yes']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(target), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "seamless.toml").exists()
