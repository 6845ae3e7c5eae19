"""`seamless service add`, `edit` and `remove`, typed as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.terminal import at_a_terminal
from harness.users import NOBODY

from .conftest import Seamless
from .fake_agent import FakeAgent

CONFIG = '# ours\n[pipeline]\nimage = "node:20"\ncode_quality = "npm run lint"\n'
PACKAGE = '{"scripts": {"test": "jest"}, "engines": {"node": "20"}}'


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def repository(folder: Path, files: dict[str, str], branch: str = "main") -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", branch)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if files:
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture
def config(home: Path) -> Path:
    file = home / "seamless.toml"
    file.write_text(CONFIG)
    return file


def service(config: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(config.read_text())["services"][name]
    return found


@pytest.mark.fake
def test_add_takes_what_the_repository_tells_and_the_agent_takes_it_up(
    seamless: Seamless, home: Path, config: Path, agent: FakeAgent
) -> None:
    repository(home / "web", {"package.json": PACKAGE, "package-lock.json": "", "Dockerfile": "EXPOSE 3000"}, "trunk")
    about = {"config_file": str(config), "version": "1", "pid": 1, "ready": True, "config_error": None, "data_dir": "/"}
    agent.answers["GET", "version"] = agent.answers["POST", "reload"] = (200, about)
    done = seamless("service", "add", "./web")
    assert (done.returncode, done.stderr) == (0, "")
    assert service(config, "web") == {
        "repo": "./web",
        "install": "npm ci",
        "code_quality": "",
        "unit_test": "npm run test",
        "caches": ["/root/.npm"],
        "port": 3000,
        "branch": "trunk",
    }
    assert config.read_text().startswith(CONFIG)
    assert "# engines.node is 20" in done.stdout
    assert "# EXPOSE in Dockerfile" in done.stdout
    assert ("POST", "reload") in [request[:2] for request in agent.requests]
    assert "the agent has taken it up" in done.stdout
    again = seamless("service", "add", "./web")
    assert (again.returncode, again.stderr) == (
        5,
        "seamless: there is a service web already. seamless service edit web\n",
    )


def test_options_stand_before_what_was_found(seamless: Seamless, home: Path, config: Path) -> None:
    repository(home / "web", {"package.json": PACKAGE})
    flags = ["--name", "shop", "--port", "80", "--unit-test", "make test", "--set", "limits.memory=4g"]
    flags += ["--set", "auto_deploy=true", "--cache", "/a", "--cache", "/b", "--code-quality", "npm run lint"]
    dry = seamless("service", "add", str(home / "web"), *flags, "--dry-run")
    assert config.read_text() == CONFIG
    done = seamless("service", "add", str(home / "web"), *flags)
    assert done.returncode == 0, done.stderr
    assert "the agent has not taken it up yet: no agent answers" in done.stdout
    assert service(config, "shop") == {
        "repo": "./web",
        "install": "npm install",
        "port": 80,
        "unit_test": "make test",
        "limits": {"memory": "4g"},
        "auto_deploy": True,
        "caches": ["/a", "/b"],
    }
    assert dry.stdout.endswith(config.read_text().removeprefix(CONFIG).lstrip("\n"))


def test_a_monorepo_needs_a_word(seamless: Seamless, home: Path, config: Path) -> None:
    repository(
        home / "mono", {"services/a/Dockerfile": "", "services/b/Dockerfile": "", "services/b/go.mod": "go 1.22"}
    )
    done = seamless("service", "add", "./mono")
    assert done.returncode == 2
    assert "holds several services: services/a, services/b. Name one: --path FOLDER" in done.stderr
    assert (
        "has no folder services/c. It has services/a"
        in seamless("service", "add", "./mono", "--path", "services/c").stderr
    )
    done = seamless("service", "add", "./mono", "--path", "services/b")
    assert done.returncode == 0, done.stderr
    assert service(config, "b")["path"] == "services/b"
    assert service(config, "b")["image"] == "golang:1.22"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add", "./nothing"], 2, "there is no"),
        (["add", "https://127.0.0.1:1/x.git"], 1, "cannot be read: unable to access"),
        (["add", "./empty"], 1, "has no commit yet. Push a first one"),
        (["add", "./" + "x" * 300], 2, "cannot be read: file name too long"),
        (["add", "./folder"], 1, "cannot be read: it is no git repository"),
        (["add", "ext::sh -c id"], 1, "cannot be read: transport 'ext' not allowed"),
        (["add", "--no-inspect", "ext::sh -c id", "--name", "x"], 2, "no other transport"),
        (["add", "./empty", "--name", "No Name"], 2, "'No Name' is not a service's name"),
        (["add", "./empty", "--no-inspect", "--port", "0"], 2, "services.empty.port: must be at least 1"),
        (["add", "./empty", "--no-inspect", "--set", "prot=1"], 2, "did you mean port?"),
        (["add", "./empty", "--no-inspect", "--set", "port"], 2, "--set port: no value"),
        (["add", "./empty", "--no-inspect", "--set", "a b=1"], 2, "'a b' is not a key"),
        (["edit", "none", "--set", "port=1"], 2, "there is no service none. configured: none yet"),
        (["remove", "none"], 2, "there is no service none"),
    ],
)
def test_what_cannot_be_added_changes_nothing(
    seamless: Seamless, home: Path, config: Path, arguments: list[str], code: int, said: str
) -> None:
    repository(home / "empty", {})
    (home / "folder").mkdir()
    done = seamless("service", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said.lower() in done.stderr.lower()
    assert config.read_text() == CONFIG


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a repository away")
def test_a_repository_of_another_user_is_read_as_the_agent_reads_it(
    seamless: Seamless, home: Path, config: Path
) -> None:
    folder = repository(home / "web", {"package.json": PACKAGE, "Dockerfile": ""})
    subprocess.run(["chown", "-R", "65534", str(folder)], check=True)
    done = seamless("service", "add", "./web")
    assert (done.returncode, done.stderr) == (0, "")
    assert service(config, "web")["install"] == "npm install"


def test_a_script_of_several_lines_ends_on_a_line_of_its_own(seamless: Seamless, home: Path, config: Path) -> None:
    project = '[project]\nname = "web"\nversion = "1"\noptional-dependencies = { dev = ["pytest"] }\n'
    repository(home / "web", {"pyproject.toml": project, "Dockerfile": ""})
    assert seamless("service", "add", "./web").returncode == 0
    assert "\n.venv/bin/pip install -e '.[dev]'\n'''\n" in config.read_text()


def test_a_repository_that_hangs_is_given_up(
    seamless: Seamless, home: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = home / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    from seamless.cli import repository as looking
    from seamless.errors import UnavailableError

    monkeypatch.setattr(looking, "_CLONE_S", 0.2)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    with (
        pytest.raises(UnavailableError, match=r"git was not done after 0 s"),
        looking.look_into("https://example.org/x"),
    ):
        pass


def test_edit_and_remove(seamless: Seamless, home: Path, config: Path) -> None:
    seamless("service", "add", "--no-inspect", "https://example.org/web.git", "--port", "80")
    done = seamless("service", "edit", "web", "--set", "environments.production.env.LEVEL=info", "--unset", "port")
    assert done.returncode == 0, done.stderr
    assert service(config, "web") == {
        "repo": "https://example.org/web.git",
        "environments": {"production": {"env": {"LEVEL": "info"}}},
    }
    refused = seamless("service", "remove", "web")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert seamless("service", "remove", "web", "--yes").returncode == 0
    assert tomllib.loads(config.read_text()) == tomllib.loads(CONFIG)


def test_a_service_is_removed_on_a_yes_only(home: Path, config: Path) -> None:
    config.write_text('services.web.repo = "https://example.org/web.git"\n')
    before = config.read_text()
    with at_a_terminal("--config", str(config), "service", "remove", "web", cwd=home) as terminal:
        terminal.answer("Remove web", "perhaps")
        terminal.answer("y or n", "n")
        terminal.read_until("nothing was changed")
        assert terminal.end() == 1
    assert config.read_text() == before


def test_what_no_answer_mends_is_told_before_anybody_is_asked(home: Path, config: Path) -> None:
    repository(home / "web", {"package.json": PACKAGE, "Dockerfile": "EXPOSE 80"})
    command = ("--config", str(config), "service", "add", "./web", "--name", "web", "--health", "well")
    with at_a_terminal(*command, cwd=home) as terminal:
        shown = terminal.read_until("services.web.health: must be")
        assert "Enter to take it" not in shown
        assert terminal.end() == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_folder_that_is_closed_is_said_to_be_closed() -> None:
    folder = Path(tempfile.mkdtemp())  # not below one that pytest closes
    program = f"""
import os
from pathlib import Path
from seamless.cli import services
from seamless.errors import NotFoundError
os.setgroups([])
os.setuid({NOBODY})
try:
    services._repository({str(folder)!r}, Path("/c.toml"))
except NotFoundError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    folder.rmdir()
    assert done.stdout == f"{folder} cannot be read: permission denied\n"


def test_edit_in_an_editor_is_put_in_place_when_it_is_valid(seamless: Seamless, home: Path, config: Path) -> None:
    def edit(script: str) -> subprocess.CompletedProcess[str]:
        return seamless("service", "edit", "web", EDITOR=f"sh -c {script!r} editor", TMPDIR=str(home / "tmp"))

    (home / "tmp").mkdir()
    seamless("service", "add", "--no-inspect", "https://example.org/web.git")
    before = config.read_text()
    assert edit("echo prot=1 >>$1").returncode == 2
    (kept,) = (home / "tmp").iterdir()
    assert kept.read_text().endswith("prot=1\n")
    assert edit("exit 3").returncode == 2
    assert "cannot be started" in seamless("service", "edit", "web", EDITOR="/nowhere/ed").stderr
    assert "cannot be started: no closing" in seamless("service", "edit", "web", EDITOR="'vi").stderr
    assert edit("true").stdout == "nothing was changed\n"
    assert config.read_text() == before
    assert edit("echo port=1 >>$1").returncode == 0
    assert config.read_text() == before + "port=1\n"
    raced = edit(f"echo use_staging=false >>$1; echo '# by Dana' >>{config}")
    assert (raced.returncode, "was changed by somebody else meanwhile" in raced.stderr) == (5, True)
    assert config.read_text().endswith("# by Dana\n")
    assert any(file.read_text().endswith("use_staging=false\n") for file in (home / "tmp").iterdir())
