"""`seamless init`: a few questions, each of which may be an option, and a commented configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from seamless.cli.first_config import FORGES, TARGETS, Answers, render
from seamless.cli.session import Session, session_of
from seamless.errors import ConfigError, RefusedError, SeamlessError, UsageError
from seamless.paths import (
    SYSTEM_CONFIG,
    SYSTEM_DATA,
    SYSTEM_SOCKET,
    default_data_dir,
    is_there,
    named_config,
    resolve,
    user_config,
)

Check = Callable[[str], str | None]
"""What is wrong with an answer; None when nothing is."""

app = typer.Typer()


@app.command()
def init(
    context: typer.Context,
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the agent's data lives. Default: /var/lib/seamless for root, else ~/.local/share/seamless.",
        ),
    ] = None,
    forge: Annotated[
        str | None,
        typer.Option(metavar="github|git", help="Where the code lives; git for any other place. Default: git."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="docker|ecs", help="Where services are deployed. Default: docker, this host.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="NAME", help="AWS region, such as eu-central-1. Default: the AWS profile's.")
    ] = None,
    webhooks: Annotated[
        str | None, typer.Option(metavar="URL", help="Where GitHub reaches the agent. Default: it polls.")
    ] = None,
    staging: Annotated[
        bool | None,
        typer.Option("--staging/--no-staging", help="Deploy to staging before production, or not. Default: --staging."),
    ] = None,
    auto_deploy: Annotated[
        bool | None,
        typer.Option(
            "--auto-deploy/--approval",
            help="Deploy to production at once, or when somebody approves. Default: --approval.",
        ),
    ] = None,
    service: Annotated[
        str | None, typer.Option(metavar="URL", help='The first service\'s repository; "" for none yet.')
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every default, ask nothing.")] = False,
) -> None:
    """Write a first configuration.

    Asks for what is not given as an option; without a terminal the defaults are taken. The file is the one that
    --config or $SEAMLESS_CONFIG names, else /etc/seamless/config.toml for root and ~/.config/seamless/config.toml for
    everybody else. One that is there is never overwritten.

    \b
    Examples:
      seamless init
      sudo seamless init --forge github --service https://github.com/acme/payment
      sudo seamless init --yes --target ecs --region eu-central-1
      seamless --config ./seamless.toml init --yes --data-dir ./data
    """
    from seamless.cli import asking, services

    session = session_of(context)
    file = _file(session)
    if is_there(file):
        raise RefusedError(
            f"{file} is there already", hint="Add to it: seamless service add URL; or name another: --config"
        )
    is_system = file == SYSTEM_CONFIG
    may_ask = asking.can_ask() and not yes

    def folder_check(text: str) -> str | None:
        return _wrong_folder(text, file, is_system)

    def region_check(text: str) -> str | None:
        return _wrong("region", {"aws": {"region": text}}, file)

    checks = [(data_dir, folder_check), (forge, _one_of(FORGES)), (target, _one_of(TARGETS)), (region, region_check)]
    checks.append((webhooks, lambda text: _wrong("public_url", _webhooks(text), file)))
    for given, check in checks:  # before the first question
        if given is not None and (wrong := check(given)) is not None:
            raise UsageError(f"{given!r}: {wrong}")

    def answer(given: str | None, question: str, default: str, check: Check) -> str:
        """What is given; else what is answered, when somebody may be asked; else the default."""
        if given is not None:
            return given
        return asking.ask(question, default, check) if may_ask else default

    def decide(given: bool | None, question: str, default: bool) -> bool:
        if given is not None or not may_ask:
            return default if given is None else given
        return asking.yes_or_no(question, default=default)

    standard_place = str(SYSTEM_DATA if is_system else default_data_dir())
    data_dir = answer(data_dir, "Where the agent's data lives", standard_place, folder_check)
    forge = answer(forge, "Where the code lives (github/git)", "git", _one_of(FORGES))
    target = answer(target, "Where services are deployed (docker/ecs)", "docker", _one_of(TARGETS))
    if target == "ecs":
        region = answer(region, "AWS region, Enter for the AWS profile's own", "", region_check)
    staging = decide(staging, "Deploy to staging before production?", True)
    auto_deploy = decide(auto_deploy, "Deploy to production without an approval?", False)
    socket = str(SYSTEM_SOCKET) if is_system else None
    _write(file, render(Answers(data_dir, socket, forge, staging, auto_deploy, target, region or "", webhooks or "")))
    print(f"wrote {file}")
    if service is None and may_ask:
        _ask_for_service(session_with(session, file))
    elif service:
        services.add_service(session_with(session, file), services.Wanted(service), ask=may_ask)
    print(f"next: {'sudo seamless agent install' if is_system else 'seamless agent start'}, then seamless doctor")


def _ask_for_service(session: Session) -> None:
    """The first service; a repository that cannot be had is asked for again."""
    from seamless.cli import asking, services

    while url := asking.ask("The first service's repository, Enter for none yet", "", lambda text: None):
        try:
            services.add_service(session, services.Wanted(url), ask=True)
            return
        except SeamlessError as error:
            print(f"  {error.message}. {error.hint or ''}".rstrip())


def session_with(session: Session, file: Path) -> Session:
    return Session(config=file, socket=session.socket, no_color=session.no_color)


def _file(session: Session) -> Path:
    if session.host:
        return session.config_file  # which raises: a configuration is written where its agent is
    if (named := named_config(session.config)) is not None:
        return named
    if os.geteuid() == 0 or not user_config():
        return SYSTEM_CONFIG
    if is_there(SYSTEM_CONFIG):
        raise RefusedError(
            f"this host has {SYSTEM_CONFIG}, and one of your own would hide it from you",
            hint=f"Add to it: sudo seamless service add URL; or for yourself: --config {user_config()[0]}",
        )
    return user_config()[0]


def _wrong(key: str, document: dict[str, Any], file: Path) -> str | None:
    """What is wrong with the key's value, in the words of the configuration; None when nothing is."""
    from seamless.config import config_from

    try:
        config_from(document, file)
    except ConfigError as error:
        return error.message.rpartition(f"{key}: ")[2]
    return None


def _webhooks(url: str) -> dict[str, Any]:
    return {"agent": {"webhooks": {"listen": "127.0.0.1:8787", "secret": {"env": "NONE"}, "public_url": url}}}


def _wrong_folder(text: str, file: Path, is_system: bool) -> str | None:
    if is_system and not Path(text).is_absolute():
        return f"an absolute path, such as {SYSTEM_DATA}: a service has no folder that it counts from"
    if (wrong := _wrong("data_dir", {"agent": {"data_dir": text}}, file)) is not None:
        return wrong
    folder = resolve(text, file)
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"you may not write to {folder}"


def _one_of(choices: list[str]) -> Check:
    return lambda text: None if text in choices else f"one of {', '.join(choices)}"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as new:
            new.write(text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", hint="Name another: seamless --config FILE init"
        ) from None
