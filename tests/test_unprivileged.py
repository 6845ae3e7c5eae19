"""A user in the docker group runs the agent, and stages write as root what that user could not remove."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agents import Agent, stage_of, stages
from harness.engine import docker
from harness.repositories import Repository
from harness.users import hand_over, take_back, unprivileged

pytestmark = pytest.mark.engine

DOCKERFILE = """\
FROM {image}
COPY . /app
CMD ["/bin/sh", "-c", "exec sleep 1000000"]
"""
SERVICE = """\
[services.web]
repo = "{repository}"
install = '''
test "$(id -u)" = 0
mkdir -p node_modules/dep
echo dep >node_modules/dep/index
chmod -R go= node_modules
echo kept >>/root/.cache/marker
'''
code_quality = '''
cat node_modules/dep/index
mkdir -p reports/deep
echo report >reports/deep/file
chmod -R 0500 reports
'''
unit_test = '''
sh unit.sh
mkdir reports closed
echo '<testsuite><testcase name="one"/></testsuite>' | tee reports/unit.xml >closed/unit.xml
chmod 0700 closed
chmod 0 unit.sh
mkfifo pipe
ln -s /nowhere link
'''
junit = ["**/*.xml"]
caches = ["/root/.cache"]
keep_failed = "1s"
"""


class UnprivilegedAgent(Agent):
    def command(self, *arguments: str) -> list[str]:
        return unprivileged(super().command(*arguments))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may enter: pytest's are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="seamless-unprivileged-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    if path.exists():
        shutil.rmtree(path)


def test_a_full_run_by_a_user_who_is_not_root_leaves_nothing(folder: Path, busybox_image: str) -> None:
    repository = Repository(folder / "web")
    repository.commit({"Dockerfile": DOCKERFILE.format(image=busybox_image), "unit.sh": "echo tested\n"}, "first")
    home = folder / "home"
    home.mkdir()
    agent = UnprivilegedAgent(home, busybox_image)
    try:
        agent.configure(SERVICE.format(repository=repository.path))
        for path in (home, agent.socket.parent, repository.path):
            hand_over(path)
        agent.start(HOME=str(home), XDG_RUNTIME_DIR="")
        assert agent.process is not None
        assert _owner(agent.process.pid) != 0

        run = agent.run("web")
        assert run["state"] == "awaiting_approval", stages(run)
        assert stage_of(run, "unit_test")["detail"]["tests"]["tests"] >= 1
        assert _owners(agent.data_dir / "views") >= {0}, "the stages wrote nothing as root: this test shows nothing"
        assert agent.approve("web-1")["state"] == "success"

        _commit(repository, {"unit.sh": "cat /root/.cache/marker; exit 3\n"})
        failed = agent.run("web")
        assert (failed["state"], failed["reason"]) == ("failure", "unit_test: exit code 3")
        assert "kept\nkept" in agent.read_log("web-2", "unit_test")

        _commit(repository, {"unit.sh": "echo mended\n"})
        assert agent.run("web")["state"] == "awaiting_approval"
        assert agent.approve("web-3")["state"] == "success"
        agent.await_clean()
        _await_empty(agent.data_dir / "spool", agent.data_dir / "work")
        agent.restart()  # which looks for workspaces that were kept long enough
        agent.await_clean()
        _await_empty(agent.data_dir / "views")
        assert (
            docker("volume", "ls", "--quiet", "--filter", f"label=io.seamless.installation={agent.installation}") == ""
        )
    finally:
        agent.finish(clean=False)


def _commit(repository: Repository, files: dict[str, str | None]) -> None:
    take_back(repository.path)
    repository.commit(files)
    hand_over(repository.path)


def _await_empty(*folders: Path) -> None:
    """Files are removed after what used them is."""
    deadline = time.monotonic() + 60
    while left := [path for folder in folders for path in folder.iterdir()]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def _owner(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def _owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}
