"""`seamless login` and `seamless webhook`: the agent does it, and tells what it found."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from seamless.cli import completing
from seamless.cli.session import Session, print_json, session_of, user_name
from seamless.errors import ConfigError, RefusedError, UsageError

if TYPE_CHECKING:
    from seamless.wire import FindingJSON

app = typer.Typer()
_WEBHOOK: Final = """Make, check and delete a webhook of GitHub.

It tells the agent of pushes and pull requests, which else polls for them.

\b
Examples:
  seamless webhook create payment
  seamless webhook check payment
"""
webhook = typer.Typer(no_args_is_help=True, help=_WEBHOOK)

_CREDENTIAL: Final = "github-token"
_LONGEST: Final = 64 * 1024
AsJson = Annotated[bool, typer.Option("--json", help="As JSON: a list of findings.")]
Service = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE", autocompletion=completing.services, show_default=False, help="A service on GitHub."
    ),
]


@app.command()
def login(
    context: typer.Context,
    from_file: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="Read the token there; - is standard input.")
    ] = None,
    from_env: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="Read the token from this variable.")
    ] = None,
    gh: Annotated[bool, typer.Option("--gh", help="Take the token of GitHub's own command line, gh.")] = False,
    device: Annotated[bool, typer.Option("--device", help="By a code in the browser; needs github.client_id.")] = False,
    credential: Annotated[
        bool, typer.Option("--credential", help="Store it for systemd to hand to the agent (as root).")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only look at what is stored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give the agent a token for GitHub.

    Asks for it without showing it, or takes it from a file, a variable, gh, or the browser. The agent tries it, stores
    it (readable for the agent alone) and says what the configured services need that it may not. Ends with 1 when
    something is missing.

    \b
    Examples:
      seamless login
      seamless login --gh
      seamless login --from-file - < token
      seamless login --check
    """
    session = session_of(context)
    ways = [from_file is not None, from_env is not None, gh, device, check]
    if sum(ways) > 1:
        raise UsageError("name one way to log in", hint="one of --from-file, --from-env, --gh, --device, --check")
    if device and credential:
        raise UsageError("--device stores what it gets with the agent", hint="leave --credential out")
    if check:
        with session.agent() as agent:
            _end(session, agent.examine_github(), as_json)
    if device:
        _end(session, _by_device(session), as_json)
    token = _token(from_file, from_env, gh=gh)
    if credential and session.host:
        raise UsageError("--credential writes a file of this host, and you named another", hint="type it there")
    with session.agent() as agent:
        found = agent.log_in(token, store=not credential)
    if credential:
        found.insert(0, _store_credential(token))
    _end(session, found, as_json)


def _token(from_file: Path | None, from_env: str | None, *, gh: bool) -> str:
    if from_env is not None:
        if not os.environ.get(from_env):
            raise UsageError(f"the variable {from_env} is not set")
        return os.environ[from_env].strip()
    if from_file is not None:
        return _read(from_file).strip()
    if gh:
        return _of_gh()
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to type a token", hint="seamless login --from-file - reads it from a pipe")
    return str(typer.prompt("Token", hide_input=True)).strip()


def _read(path: Path) -> str:
    try:
        if str(path) == "-":
            return sys.stdin.read(_LONGEST)
        with path.open(encoding="utf-8") as file:
            return file.read(_LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise UsageError(f"{path} cannot be read: {(why or '').lower()}") from error


def _of_gh() -> str:
    import subprocess

    try:
        done = subprocess.run(["gh", "auth", "token"], capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        raise UsageError(
            "there is no gh on this machine", hint="see https://cli.github.com, or: seamless login"
        ) from None
    except subprocess.TimeoutExpired:
        raise UsageError("gh does not answer", hint="seamless login asks for the token itself") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise UsageError("gh has no token", hint="gh auth login") from None
    return done.stdout.strip()


def _by_device(session: Session) -> list[FindingJSON]:
    import time

    with session.agent() as agent:
        begun = agent.begin_device()
        print(f"Open {begun['verification_uri']} and type {begun['user_code']}", file=sys.stderr)
        deadline = time.monotonic() + begun["expires_in_s"]
        while time.monotonic() < deadline:
            time.sleep(begun["interval_s"])
            found = agent.end_device(begun["device_code"])
            if found is not None:
                return found
    raise RefusedError("nobody typed the code in time", hint="seamless login --device")


def _store_credential(token: str) -> FindingJSON:
    """Where systemd reads it from as root, to hand it to the agent alone."""
    from seamless.cli.unit import CREDENTIALS_DIR, UNIT_NAME
    from seamless.secretrefs import write_secret

    target = CREDENTIALS_DIR / _CREDENTIAL
    try:
        write_secret(target, token)
    except OSError as error:
        why = (error.strerror or "").lower()
        is_missing = isinstance(error, FileNotFoundError)
        hint = "sudo seamless agent install makes that folder" if is_missing else "sudo seamless login --credential"
        raise ConfigError(f"{target} cannot be written: {why}", hint=hint) from error
    place = f"/run/credentials/{UNIT_NAME}/secret_{_CREDENTIAL}"
    return {
        "subject": "token",
        "level": "ok",
        "what": f"stored in {target}",
        "mend": f'[github] token = {{ file = "{place}" }}, then: sudo systemctl restart {UNIT_NAME}',
    }


@webhook.command()
def create(context: typer.Context, service: Service, as_json: AsJson = False) -> None:
    """Make the webhook of a service's repository.

    agent.webhooks says where GitHub reaches the agent (public_url), and where the secret is: a file that is not there
    yet gets one that is generated. A webhook that is there already gets the secret and the
    events of now: that is how a secret is changed.

    \b
    Example:
      seamless webhook create payment
    """
    session = session_of(context)
    with session.agent() as agent:
        _end(session, agent.create_webhook(service), as_json)


@webhook.command("check")
def check_webhook(context: typer.Context, service: Service, as_json: AsJson = False) -> None:
    """See whether GitHub's ping arrives here.

    GitHub is asked to send it again.

    \b
    Example:
      seamless webhook check payment
    """
    session = session_of(context)
    with session.agent() as agent:
        _end(session, agent.check_webhook(service), as_json)


@webhook.command()
def delete(context: typer.Context, service: Service, as_json: AsJson = False) -> None:
    """Delete the webhook of a service's repository.

    \b
    Example:
      seamless webhook delete payment
    """
    session = session_of(context)
    with session.agent() as agent:
        _end(session, agent.delete_webhook(service), as_json)


def _end(session: Session, found: list[FindingJSON], as_json: bool) -> None:
    """Prints the findings and ends the command; 1 with an error among them."""
    if as_json:
        print_json(found)
    else:
        from seamless.rendering.findings import findings_lines
        from seamless.rendering.runs import Viewer

        for line in findings_lines(found, Viewer.at_present(user_name())):
            session.console.print(line)
    raise typer.Exit(int(any(finding["level"] == "error" for finding in found)))
