"""`seamless check` and `seamless doctor`. The agent looks, when it answers: it has the rights and the secrets that
count. Without one, this command does, as the user who types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from seamless import findings
from seamless.cli.session import Session, print_json, session_of, user_name
from seamless.errors import AgentUnreachableError, ConfigError
from seamless.findings import Finding

if TYPE_CHECKING:
    from seamless.wire import FindingJSON

app = typer.Typer()
AsJson = Annotated[bool, typer.Option("--json", help="As JSON: a list of findings.")]


@app.command()
def check(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Only the file, and what it names on this host.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the configuration and what it names.

    The file; repositories, branches, Dockerfiles; references to secrets; images, there or pullable; Compose files. Each
    finding has the key and what mends it. Ends with 1 when something is wrong. In a pre-commit hook, add --offline.

    \b
    Examples:
      seamless check
      seamless --config seamless.toml check --offline --json
    """
    session = session_of(context)
    found = _by_agent(session, offline) if not session.host else _asked(session, offline)
    _end(session, _check_here(session.config_file, offline) if found is None else found, as_json)


@app.command()
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Look whether this host can run Seamless.

    Engine, BuildKit, Compose and git with their versions, disk, clock, permissions, the agent itself, and the services
    outside. Each finding has the command that mends it. Ends with 1 when something is wrong.

    \b
    Examples:
      seamless doctor
      seamless doctor --json
    """
    session = session_of(context)
    try:
        with session.agent() as agent:
            found = agent.doctor()
    except (AgentUnreachableError, ConfigError) as error:
        if session.host:
            raise
        found = _examine_here(session)
        if isinstance(error, AgentUnreachableError):
            found.append(_json(findings.failed("agent", error, mend="seamless agent start")))
    _end(session, found, as_json)


def _by_agent(session: Session, offline: bool) -> list[FindingJSON] | None:
    """What the agent of this very configuration finds; None when there is none."""
    try:
        with session.agent() as agent:
            if agent.version()["config_file"] != str(session.config_file):
                return None
            return agent.check(offline=offline)
    except (AgentUnreachableError, ConfigError):  # a file that is no TOML names no socket
        session.config_file  # noqa: B018 - raises when there is none
        return None


def _asked(session: Session, offline: bool) -> list[FindingJSON]:
    with session.agent() as agent:
        return agent.check(offline=offline)


def _check_here(file: Path, offline: bool) -> list[FindingJSON]:
    import asyncio
    import tempfile

    from seamless.agent.checking import Checker
    from seamless.forges.git import GitForge

    with tempfile.TemporaryDirectory(prefix="seamless-check-") as folder:
        checker = Checker(GitForge(Path(folder, "mirrors")), Path(folder, "work"))
        return [_json(finding) for finding in asyncio.run(checker.check(file, offline=offline))]


def _examine_here(session: Session) -> list[FindingJSON]:
    import asyncio

    from seamless.agent.doctor import examine
    from seamless.config import config_from, load_config

    try:
        config, wrong = load_config(session.config_file), []
    except ConfigError as error:
        closed = isinstance(error.__cause__, PermissionError)  # of the host, to one who is not in its group yet
        config = config_from({}, session.config_file if closed else Path("seamless.toml"))
        wrong = [findings.failed("configuration", error, mend="edit that file, then seamless check")]
    return [_json(finding) for finding in [*wrong, *asyncio.run(examine(config))]]


def _json(finding: Finding) -> FindingJSON:
    return cast("FindingJSON", findings.to_json(finding))


def _end(session: Session, found: list[FindingJSON], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        from seamless.rendering.findings import findings_lines
        from seamless.rendering.runs import Viewer

        for line in findings_lines(found, Viewer.at_present(user_name())):
            session.console.print(line)
    raise typer.Exit(findings.exit_code([findings.from_json(cast(dict[str, Any], one)) for one in found]))
