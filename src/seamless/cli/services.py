"""`seamless service add`, `edit`, `remove`: the services of the configuration file of this host."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seamless.cli import completing
from seamless.cli.fleet import services
from seamless.cli.session import Session, session_of
from seamless.errors import ConfigError, ForbiddenError, NotFoundError, RefusedError, SeamlessError, UsageError

if TYPE_CHECKING:
    from seamless.discovery import Suggestion

Values = dict[tuple[str | int, ...], Any]

app = services
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", show_default=False, help="Any parameter; VALUE as TOML, or text."),
]


@app.command("add")
def add(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="A git URL, or a path of this host.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the repository's or folder's.")] = None,
    path: Annotated[str | None, typer.Option(metavar="FOLDER", help="The service's folder in a monorepo.")] = None,
    branch: Annotated[str | None, typer.Option(metavar="BRANCH", help="Default: the repository's own.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="The container image that the commands run in.")
    ] = None,
    install: Annotated[
        str | None, typer.Option(metavar="SCRIPT", help='Prepares the workspace; "" for nothing.')
    ] = None,
    code_quality: Annotated[
        str | None, typer.Option(metavar="SCRIPT", help='Checks the code; "" for no check.')
    ] = None,
    unit_test: Annotated[str | None, typer.Option(metavar="SCRIPT", help='Tests the code; "" for no tests.')] = None,
    cache: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER", help="Kept between runs; may be repeated.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="The port that the container listens on.")] = None,
    health: Annotated[
        str | None, typer.Option(metavar="PATH", help="A path that answers when the service is well.")
    ] = None,
    settings: Setting = None,
    no_inspect: Annotated[bool, typer.Option("--no-inspect", help="Do not look into the repository.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every proposal, ask nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written.")] = False,
) -> None:
    """Add a service.

    Looks into its repository, proposes what the pipeline needs to know, each with the reason, and writes what differs
    from the pipeline's defaults. What is given as an option is not asked; without a terminal nothing is. The agent
    takes the service up by itself.

    \b
    Examples:
      seamless service add https://github.com/acme/payment
      seamless service add git@github.com:acme/shop.git --path services/cart
      seamless service add ./payment --yes --unit-test "npm run test:ci"
      seamless service add ./payment --name pay --set auto_deploy=true --dry-run
    """
    session = session_of(context)
    given = _given(settings)
    flags: dict[str, Any] = {"path": path, "branch": branch, "image": image, "install": install}
    flags |= {"code_quality": code_quality, "unit_test": unit_test, "port": port, "health": health, "caches": cache}
    given |= {(key,): value for key, value in flags.items() if value is not None}
    add_service(session, Wanted(url, name, given, not no_inspect, dry_run), ask=not yes and not dry_run)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `service add` was told."""

    url: str
    name: str | None = None
    given: Values = field(default_factory=dict)
    inspect: bool = True
    dry_run: bool = False


def add_service(session: Session, wanted: Wanted, *, ask: bool) -> None:
    """Proposes, asks where it may, writes, and tells the agent."""
    from seamless.cli import asking, service_questions
    from seamless.config import editing

    _text(session.config_file)
    if not wanted.dry_run:
        editing.check_changeable(session.config_file)  # before anybody is asked for what cannot be written
    if wanted.name is not None:
        service_questions.check_name(wanted.name)
    given = dict(wanted.given)
    repo = _repository(wanted.url, session.config_file)
    may_ask = asking.can_ask() and ask
    suggestions: list[Suggestion] = []
    if wanted.inspect:
        folder, suggestions = _inspect(_place(repo, session.config_file), given, may_ask)
        if folder:
            given[("path",)] = folder
    text = _text(session.config_file)
    name = wanted.name or service_questions.name_of(text, repo, str(given.get(("path",), "")), may_ask)
    service_questions.check_name(name)
    editing.check_new(text, name)

    proposals = {tuple(one.key.split(".")): one for one in suggestions}
    whole: Values = {("repo",): repo, **{key: one.value for key, one in proposals.items() if one.value}, **given}
    editing.differing(text, session.config_file, name, whole)  # what no answer mends is told before anybody is asked

    def wrong(key: tuple[str | int, ...], value: Any) -> str | None:
        """What is wrong with a parameter, in the words of the configuration; None when nothing is."""
        try:
            editing.differing(text, session.config_file, name, {**whole, key: value})
        except ConfigError as error:
            return error.message.rpartition(f"{'.'.join(map(str, key))}: ")[2]
        return None

    values: Values = {("repo",): repo}
    for key, one in proposals.items():
        if key not in given and (one.value or editing.pipeline_sets(text, key)):
            settled = service_questions.settle(one, may_ask, functools.partial(wrong, key))
            if settled or editing.pipeline_sets(text, key):
                values[key] = settled
    values |= given
    written = editing.differing(text, session.config_file, name, values)
    edit = editing.add_service(name, written)
    if wanted.dry_run:
        print(_added(text, edit(text)), end="")
        return
    new = editing.rewrite(session.config_file, edit)
    print(f"\n{session.config_file} has, new:\n\n{_added(text, new)}")
    print(_taken_up(session, name))


def _inspect(place: str, given: Mapping[tuple[str | int, ...], Any], may_ask: bool) -> tuple[str, list[Suggestion]]:
    """The service's folder, and what to propose for it."""
    from seamless.cli import asking
    from seamless.cli.repository import look_into
    from seamless.discovery import Suggestion, folders_of, propose

    wanted = given.get(("branch",))
    with look_into(place, wanted) as look:
        folder = str(given.get(("path",), "")).strip("/")
        folders = folders_of(look.files)
        if not folder and "" not in folders and folders:
            shown = ", ".join(folders[:20])
            if len(folders) == 1:
                folder = folders[0]
                print(f"{f'path = {json.dumps(folder)}':60}  # the only folder that looks like a service")
            elif may_ask:
                folder = asking.choose("Its folder", folders, folders[0])
            else:
                raise UsageError(f"{place} holds several services: {shown}", hint="Name one: --path FOLDER")
        elif folder and not look.files.has_folder(folder):
            raise NotFoundError(f"{place} has no folder {folder}", hint=f"It has {', '.join(folders[:20])}")
        found = propose(look.files.below(folder))
        if wanted is None and look.branch not in (None, "main"):
            found.append(Suggestion("branch", str(look.branch), "the repository's own branch"))
    return folder, found


@app.command("edit")
def edit(
    context: typer.Context,
    service: completing.Service,
    settings: Setting = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="KEY", show_default=False, help="Back to the default.")
    ] = None,
) -> None:
    """Change a service's parameters.

    With --set and --unset, or in $EDITOR, which opens a copy of the configuration: it is put in its place when it is
    valid. Comments and order stay.

    \b
    Examples:
      seamless service edit payment --set unit_test="npm run test:ci"
      seamless service edit payment --set limits.memory=4g --unset health
      seamless service edit payment --set environments.production.env.LEVEL=info
      seamless service edit payment
    """
    from seamless.config import editing

    session = session_of(context)
    if not settings and not unset:
        old = _text(session.config_file)
        copy, new = _edited(session.config_file, old, service)

        def replace(text: str) -> str:
            if text != old:
                raise RefusedError(
                    f"{session.config_file} was changed by somebody else meanwhile", hint=f"Your text is in {copy}"
                )
            return new

        if new != old:
            editing.rewrite(session.config_file, replace)
        copy.unlink()
        if new == old:
            print("nothing was changed")
            return
    else:
        change = editing.change_service(service, _given(settings), [_key(key) for key in unset or []])
        editing.rewrite(session.config_file, change)
    print(_taken_up(session, service))


@app.command("remove")
def remove(
    context: typer.Context,
    service: completing.Service,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a service from the configuration.

    Runs that are under way end on the parameters that they began with. What is deployed stays, as do history and logs.

    \b
    Example:
      seamless service remove payment
    """
    from seamless.cli import asking
    from seamless.config import editing

    session = session_of(context)
    change = editing.remove_service(service)
    change(_text(session.config_file))  # whether it can be, before somebody is asked
    asking.confirm(f"Remove {service} from {session.config_file}?", yes=yes)
    editing.rewrite(session.config_file, change)
    print(f"{service} is removed; what it has deployed is left as it is")


# -- what is given


def _given(settings: list[str] | None) -> Values:
    values: Values = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: no value", hint="--set KEY=VALUE")
        values[_key(key.strip())] = _value(value)
    return values


def _key(text: str) -> tuple[str, ...]:
    """The parts of a dotted key as TOML writes it."""
    import tomllib

    try:
        table = tomllib.loads(f"{text} = 0")
    except ValueError:
        raise UsageError(f"{text!r} is not a key", hint="such as build.dockerfile") from None
    parts: list[str] = []
    value: Any = table
    while isinstance(value, dict) and len(value) == 1:
        ((part, value),) = value.items()
        parts.append(part)
    if value != 0:
        raise UsageError(f"{text!r} is not a key", hint="such as build.dockerfile")
    return tuple(parts)


def _value(text: str) -> Any:
    """As TOML; what is none is text, so that a shell's quotes are enough."""
    import tomllib

    try:
        table = tomllib.loads(f"x = {text}")
    except ValueError:
        return text
    return table["x"] if list(table) == ["x"] else text


def _repository(url: str, config_file: Path) -> str:
    """As it is written: a path of this host counts from the file's folder there, and from here on the command line."""
    if "://" in url or (":" in url.partition("/")[0] and not os.path.exists(url)):
        return url
    path = Path(url).expanduser().absolute()
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            path.stat()
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        what = f"there is no {path}" if gone else f"{path} cannot be read: {(error.strerror or '').lower()}"
        raise NotFoundError(what, hint="A URL is such as https://github.com/acme/payment") from None
    path = Path(os.path.normpath(path))
    return f"./{path.relative_to(config_file.parent)}" if path.is_relative_to(config_file.parent) else str(path)


def _place(repo: str, config_file: Path) -> str:
    return str(config_file.parent / repo) if repo.startswith("./") else repo


def _text(file: Path) -> str:
    from seamless.config import load_config

    load_config(file)  # an unreadable or wrong file is told as the agent would
    return file.read_text(encoding="utf-8-sig")


def _added(old: str, new: str) -> str:
    return new.removeprefix(old).lstrip("\n")


def _edited(file: Path, text: str, service: str) -> tuple[Path, str]:
    """A copy, and what the user's editor made of it. Raises ConfigError for what is wrong; the copy is kept then."""
    import tomllib

    from seamless.config import config_from

    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        editor = shlex.split(named)
    except ValueError as error:
        raise UsageError(f"the editor {named} cannot be started: {str(error).lower()}", hint="Set EDITOR") from None
    line = next((n for n, one in enumerate(text.splitlines(), 1) if f"services.{service}" in one), 1)
    descriptor, name = tempfile.mkstemp(prefix="seamless-", suffix=".toml")
    with os.fdopen(descriptor, "w", encoding="utf-8") as copy:
        copy.write(text)
    at_line = [f"+{line}"] if editor and Path(editor[0]).name in ("vi", "vim", "nvim", "nano", "emacs") else []
    try:
        done = subprocess.run([*editor, *at_line, name], check=False)
    except (FileNotFoundError, PermissionError) as error:
        os.unlink(name)
        raise UsageError(
            f"the editor {editor[0] if editor else ''} cannot be started: {error.strerror}", hint="Set EDITOR"
        ) from None
    try:
        if done.returncode != 0:
            raise RefusedError(f"{editor[0]} ended with {done.returncode}")
        new = Path(name).read_text(encoding="utf-8")
        config_from(tomllib.loads(new), file)
    except (SeamlessError, ValueError) as error:
        said = error.message if isinstance(error, SeamlessError) else f"{file}: {error}"
        raise ConfigError(f"{said}\nnothing was changed", hint=f"Your text is in {name}") from None
    return Path(name), new


def _taken_up(session: Session, service: str) -> str:
    """Whether the agent has it, in words; the change stands in any case."""
    try:
        with session.agent() as agent:
            there = agent.version()["config_file"] == str(session.config_file)
            if there:
                agent.reload()
    except ForbiddenError:
        return "the agent takes it up by itself"
    except SeamlessError as error:
        return f"the agent has not taken it up yet: {error.message}"
    if not there:
        return f"the agent that answers has another configuration than {session.config_file}"
    return f"the agent has taken it up. Try it: seamless run {service} --checks"
