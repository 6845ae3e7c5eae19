"""`seamless init`: a few questions, each of which may be an option, and a commented configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from seamless.cli.session import Session, session_of
from seamless.errors import ConfigError, RefusedError, UsageError
from seamless.paths import SYSTEM_CONFIG, SYSTEM_DATA, SYSTEM_SOCKET, default_data_dir, user_config

app = typer.Typer()
_FORGES: Final = ["git", "github"]
_TEMPLATE: Final = """\
# Seamless's configuration. The agent reads it again when it changes; `seamless check` tells what is wrong with it.
# Every key: docs/configuration.md

[agent]                       # the daemon on the build host
{agent}
# max_parallel_runs = 4       # runs that execute a stage at a time

[pipeline]                    # defaults for every service; any key of a service may stand here
# image = "node:20"           # the commands run in this image
# install = "npm ci"          # prepares the workspace
# code_quality = "npm run lint"
# unit_test = "npm test"
use_staging = {staging}            # {staging_why}
auto_deploy = {auto_deploy}           # {auto_deploy_why}
{forge}
# [registries."ghcr.io"]      # log-ins, to pull and to push
# username = "acme"
# password = {{ file = "/etc/seamless/credentials/ghcr" }} # every secret is a reference, never the secret itself

# [environments.production]   # not set: this host's Docker Engine
# target = "docker"

# [access]                    # not set: whoever may open the socket may do all
# operators = ["dana"]        # run, cancel, rerun, roll back staging
# approvers = ["robin"]       # also approve, reject, release, promote, roll back production
# admins = ["alex"]           # also configuration, environments, gc, shell

# Services: seamless service add https://github.com/acme/payment
"""
_FORGE_LINES: Final = {
    "git": """\
# poll_interval = "60s"       # how often a repository is asked for new commits
# git = { key = "/etc/seamless/deploy-key", known_hosts = "/etc/seamless/known_hosts" } # private repositories by ssh
""",
    "github": """\
# poll_interval = "60s"       # how often a repository is asked for new commits
# GitHub's token for private repositories, commit statuses and merging: seamless login (docs/github.md)
""",
}


@dataclass(frozen=True, slots=True)
class Answers:
    data_dir: str
    socket: str | None  # None: the user's own place
    forge: str
    staging: bool
    auto_deploy: bool


def render(answers: Answers) -> str:
    """The configuration's text."""
    agent = [f"data_dir = {json.dumps(answers.data_dir, ensure_ascii=False)}"]
    if answers.socket is not None:
        agent.append(f"socket = {json.dumps(answers.socket)}")
    return _TEMPLATE.format(
        agent="\n".join(agent),
        forge=_FORGE_LINES[answers.forge],
        staging=json.dumps(answers.staging),
        staging_why="staging first" if answers.staging else "straight to production",
        auto_deploy=json.dumps(answers.auto_deploy),
        auto_deploy_why="production without an approval" if answers.auto_deploy else "production after an approval",
    )


@app.command()
def init(
    context: typer.Context,
    data_dir: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where the agent's data lives.")] = None,
    forge: Annotated[str | None, typer.Option(metavar="NAME", help="github, or git for any other.")] = None,
    staging: Annotated[bool | None, typer.Option("--staging/--no-staging", help="Deploy to staging first.")] = None,
    auto_deploy: Annotated[
        bool | None, typer.Option("--auto-deploy/--approval", help="Production without, or after an approval.")
    ] = None,
    service: Annotated[str | None, typer.Option(metavar="URL", help='The first service; "": none yet.')] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every default, ask nothing.")] = False,
) -> None:
    """Write a first configuration.

    Asks for what is not given as an option; without a terminal the defaults are taken. The file is the one that
    --config names, else /etc/seamless/config.toml for root and ~/.config/seamless/config.toml for everybody else. One
    that is there is never overwritten.

    \b
    Examples:
      seamless init
      sudo seamless init --forge github --approval --service https://github.com/acme/payment
      seamless --config ./seamless.toml init --yes --data-dir ./data
    """
    from seamless.cli import asking, services

    session = session_of(context)
    file = _file(session)
    if os.path.lexists(file):
        raise RefusedError(
            f"{file} is there already", hint="Add to it: seamless service add URL; or name another: --config"
        )
    is_system = file == SYSTEM_CONFIG
    may_ask = asking.can_ask() and not yes

    def answer(given: str | None, question: str, default: str, check: Callable[[str], str | None]) -> str:
        if given is None:
            return asking.ask(question, default, check) if may_ask else default
        if (wrong := check(given)) is not None:
            raise UsageError(f"{given!r}: {wrong}")
        return given

    def decide(given: bool | None, question: str, default: bool) -> bool:
        if given is not None or not may_ask:
            return default if given is None else given
        return bool(typer.confirm(question, default=default))

    answers = Answers(
        answer(
            data_dir,
            "Where the agent's data lives",
            str(SYSTEM_DATA if is_system else default_data_dir()),
            lambda text: _wrong_folder(text, file),
        ),
        str(SYSTEM_SOCKET) if is_system else None,
        answer(forge, "Where the code lives (github/git)", "git", _wrong_forge),
        decide(staging, "Deploy to staging before production?", True),
        decide(auto_deploy, "Deploy to production without an approval?", False),
    )
    _write(file, render(answers))
    print(f"wrote {file}")
    url = answer(service, "The first service's repository, Enter for none yet", "", lambda text: None)
    if url:
        services.add_service(session_with(session, file), services.Wanted(url), ask=may_ask)
    print(f"next: {'sudo seamless agent install' if is_system else 'seamless agent start'}, then seamless doctor")


def session_with(session: Session, file: Path) -> Session:
    return Session(config=file, socket=session.socket, no_color=session.no_color)


def _file(session: Session) -> Path:
    if session.host:
        return session.config_file  # which raises: a configuration is written where its agent is
    if session.config is not None:
        return session.config.expanduser().absolute()
    return SYSTEM_CONFIG if os.geteuid() == 0 else user_config()[0] if user_config() else SYSTEM_CONFIG


def _wrong_folder(text: str, file: Path) -> str | None:
    from seamless.config import config_from

    try:
        folder = config_from({"agent": {"data_dir": text}}, file).agent.data_dir
    except ConfigError as error:
        return error.message.rpartition("data_dir: ")[2]
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"you may not write to {folder}"


def _wrong_forge(text: str) -> str | None:
    return None if text in _FORGES else f"one of {', '.join(_FORGES)}"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as new:
            new.write(text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", hint="Name another: seamless --config FILE init"
        ) from None
