"""`seamless init`: answers as options, at a terminal, and wrong ones."""

from __future__ import annotations

import tomllib
from itertools import product
from pathlib import Path

import pytest

from harness.terminal import at_a_terminal
from seamless.cli.first_config import Answers, render
from seamless.cli.init import _wrong_folder
from seamless.config.loading import config_from
from seamless.model import Environment
from seamless.paths import SYSTEM_CONFIG

from .conftest import Seamless
from .test_services import PACKAGE, repository

BOTH = [True, False]


@pytest.mark.parametrize(
    ("forge", "staging", "auto", "target", "socket"),
    list(product(["git", "github"], BOTH, BOTH, ["docker", "ecs"], ["/run/seamless/agent.sock", None])),
)
def test_every_answer_makes_a_configuration_that_holds_also_without_its_comments(
    forge: str, staging: bool, auto: bool, target: str, socket: str | None
) -> None:
    region, webhooks = ("eu-central-1", "https://ci.acme.example") if target == "ecs" else ("", "")
    text = render(Answers('/srv/a "b"', socket, forge, staging, auto, target, region, webhooks))
    config = config_from(tomllib.loads(text), Path("/etc/seamless/config.toml"))
    assert str(config.agent.data_dir) == '/srv/a "b"'
    assert config.environments[Environment.PRODUCTION].target == target
    assert config.environments[Environment.STAGING].target == (target if staging else "docker")
    assert config.aws.region == (region or None)
    assert (config.agent.webhooks is not None) == bool(webhooks)
    assert config.pipeline == {"use_staging": staging, "auto_deploy": auto}
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    uncommented = "\n".join(line for line in lines if line[:1] == "[" or " = " in line)
    config_from(tomllib.loads(uncommented), Path("/etc/seamless/config.toml"))


def test_without_a_terminal_the_options_and_defaults_are_taken(seamless: Seamless, home: Path) -> None:
    repository(home / "web", {"package.json": PACKAGE, "Dockerfile": ""})
    done = seamless("--config", "c/seamless.toml", "init", "--data-dir", "../d", "--no-staging", "--service", "./web")
    assert done.returncode == 0, done.stderr
    written = tomllib.loads((home / "c/seamless.toml").read_text())
    assert written["agent"] == {"data_dir": "../d"}
    assert written["pipeline"] == {"use_staging": False, "auto_deploy": False}
    assert written["services"]["web"]["repo"] == str(home / "web")
    assert written["services"]["web"]["image"] == "node:20"
    assert done.stdout.splitlines()[-1] == "next: seamless agent start, then seamless doctor"
    assert oct((home / "c/seamless.toml").stat().st_mode & 0o777) == "0o640"
    again = seamless("--config", "c/seamless.toml", "init")
    assert (again.returncode, "is there already" in again.stderr) == (5, True)
    assert seamless("--config", "c/seamless.toml", "check", "--offline").returncode == 0


def test_the_variable_names_the_file_as_for_every_other_command(
    seamless: Seamless, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAMLESS_CONFIG", "mine.toml")
    assert seamless("init", "--yes").stdout.startswith(f"wrote {home / 'mine.toml'}")
    assert seamless("check", "--offline").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--forge", "svn"], "'svn': one of git, github"),
        (["--target", "fargate"], "'fargate': one of docker, ecs"),
        (["--target", "ecs", "--region", "Frankfurt"], "'Frankfurt': must be"),
        (["--webhooks", "ci.acme.example"], "'ci.acme.example': must be a URL such as"),
        (["--data-dir", "a:b"], "must hold no comma, colon or backslash"),
        (["--data-dir", "file/below"], "is not a folder"),
        (["--data-dir", ""], "must be a path of the host"),
    ],
)
def test_wrong_answers_write_nothing(seamless: Seamless, home: Path, arguments: list[str], said: str) -> None:
    (home / "file").touch()
    done = seamless("--config", "seamless.toml", "init", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (home / "seamless.toml").exists()


def test_a_place_that_cannot_be_written(seamless: Seamless, home: Path) -> None:
    (home / "file").touch()
    done = seamless("--config", "file/seamless.toml", "init", "--yes")
    assert done.returncode == 2
    assert "cannot be written: File exists" in done.stderr


def test_at_a_terminal_a_wrong_answer_is_asked_again(home: Path) -> None:
    (home / "file").touch()
    (home / "plain").mkdir()
    repository(home / "empty", {})
    repository(home / "web", {"package.json": PACKAGE, "Dockerfile": "EXPOSE 80"})
    with at_a_terminal("--config", "seamless.toml", "init", cwd=home) as terminal:
        terminal.answer("data lives", "file/x")
        terminal.answer("file is not a folder", "")  # the next prompt follows; its answer is a second wrong one below
        terminal.answer("Where the code lives", "svn")
        terminal.answer("one of git, github", "github")
        terminal.answer("Where services are deployed", "aws")
        terminal.answer("one of docker, ecs", "ecs")
        terminal.answer("AWS region", "Frankfurt")
        terminal.answer("must be", "")
        terminal.answer("staging before production", "perhaps")
        terminal.answer("y or n", "n")
        terminal.answer("without an approval", "y")
        terminal.answer("first service", "./nowhere")
        terminal.answer("there is no", "./empty")
        terminal.answer("no commit yet", "./plain")
        terminal.answer("it is no git repository", "./web")
        terminal.answer("Its name", "No Name!")
        terminal.answer("1 to 63 lower-case letters", "")
        terminal.answer("image, Enter to take it, - for none", "Node 20")
        terminal.answer("must be an image", "")
        terminal.answer("install, Enter", "")
        terminal.answer("unit_test, Enter", "-")
        terminal.answer("port, Enter", "much")
        terminal.answer("must be a whole number", "²")
        terminal.answer("must be a whole number", "70000")
        terminal.answer("must be at most 65535", "8080")
        terminal.read_until("next: seamless agent start")
        assert terminal.end() == 0
    written = tomllib.loads((home / "seamless.toml").read_text())
    assert written["pipeline"] == {"use_staging": False, "auto_deploy": True}
    service = written["services"]["web"]
    assert (service["port"], service["install"], "unit_test" in service) == (8080, "npm install", False)


def test_a_wrong_option_is_told_before_the_first_question(home: Path) -> None:
    with at_a_terminal("--config", "seamless.toml", "init", "--forge", "svn", cwd=home) as terminal:
        assert terminal.read_until("one of git, github").startswith("seamless: 'svn': ")
        assert terminal.end() == 2


def test_a_question_that_is_left_writes_nothing(home: Path) -> None:
    with at_a_terminal("--config", "seamless.toml", "init", cwd=home) as terminal:
        terminal.read_until("data lives")
        terminal.type("\x04")  # Ctrl-D
        terminal.read_until("\r\nseamless: interrupted")
        assert terminal.end() == 130
    assert not (home / "seamless.toml").exists()


def test_a_service_of_the_system_has_its_data_at_an_absolute_place() -> None:
    assert "an absolute path" in (_wrong_folder("data", SYSTEM_CONFIG, is_system=True) or "")
    assert _wrong_folder("data", Path("seamless.toml"), is_system=False) is None
