"""The `seamless` command: global options, the commands, and the one place where errors become words and exit codes.

Start-up is a budget: this module and those of the commands import Typer and the standard library only. What a
command needs it imports inside its function.
"""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from seamless import __version__
from seamless.cli import (
    agent,
    artifacts,
    backups,
    demo,
    deploys,
    environments,
    examining,
    fleet,
    history,
    host,
    init,
    login,
    logs,
    notify,
    runs,
    services,
    shell,
    tui,
)
from seamless.cli.session import Session
from seamless.errors import SeamlessError
from seamless.paths import HOST_VARIABLE, SOCKET_VARIABLE, state_dir

INTERRUPTED = 130
_FAILED = 1
_A_WORD = re.compile(
    "(?!(?:seamless|sudo|aws|docker|gh|git|journalctl|ssh) )[a-z]+[ ,:]"
)  # a hint may also begin with a command, a key or a path
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]  # Click's, whichever copy of Click this Typer carries

app = typer.Typer(
    name="seamless",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seamless {__version__}")
        raise typer.Exit


@app.callback()
def seamless(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,  # judged where it is read, like every other fault of it
            show_default=False,
            help="Configuration file. Else $SEAMLESS_CONFIG, ./seamless.toml, ~/.config/seamless/config.toml, "
            "/etc/seamless/config.toml.",
        ),
    ] = None,
    socket: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", readable=False, show_default=False, help="The agent's socket. Else $SEAMLESS_SOCKET."
        ),
    ] = None,
    host_url: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="URL",
            show_default=False,
            help="The agent of another host, by OpenSSH: ssh://build-host. Else $SEAMLESS_HOST.",
        ),
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours, as with $NO_COLOR.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One shared pipeline for all of a team's services: from git push to production.

    A run is named by its id (payment-42), or by its service (payment), which means the latest run.

    \b
    Exit codes:
      0    success
      1    the run failed or was cancelled, or what was tried or checked failed
      2    wrong usage, or a configuration that cannot be used
      3    no agent answers
      4    the run stopped at an approval
      5    refused: not in this state, or not to this user
      130  interrupted; the run goes on

    \b
    Examples:
      seamless agent start
      seamless run payment
      seamless status
    """
    named = os.environ.get(SOCKET_VARIABLE)
    context.obj = Session(
        config=config,
        socket=socket or (Path(named) if named else None),
        no_color=no_color or bool(os.environ.get("NO_COLOR")),
        host=host_url or os.environ.get(HOST_VARIABLE) or None,
    )


app.add_typer(agent.app, name="agent")
app.add_typer(services.app, name="service")
app.add_typer(environments.app, name="env")
app.add_typer(host.app, name="host")
app.add_typer(notify.app, name="notify")
app.add_typer(login.webhook, name="webhook")
for room in (init, login, examining, runs, logs, artifacts, deploys, fleet, shell, tui, history, backups, demo):
    app.add_typer(room.app)


def main() -> int:
    """Run the command line in `sys.argv`; returns the exit code. No error leaves as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets question marks, not an error
    try:
        code = typer.main.get_command(app).main(prog_name="seamless", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SeamlessError as error:
        _say(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        _discard_stdout()
        return _FAILED
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted", None)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, _USAGE_ERROR):
            return _usage_error(error)
        _say(*_bug(error))
        return _FAILED


def _say(message: str, hint: str | None) -> None:
    """`seamless: message. hint` on standard error; both may quote what came from outside."""
    from seamless.logtext import Sanitiser

    text = f"seamless: {message}"
    if hint and _A_WORD.match(hint):
        hint = hint[0].upper() + hint[1:]
    if hint and "\n" in message:
        text += f"\n{hint}"
    elif hint:
        text += f" {hint}" if message.endswith((".", "?", "!", ":")) else f". {hint}"
    sanitiser = Sanitiser(colour=False)
    print(sanitiser.feed(text.encode(errors="replace")) + sanitiser.finish(), file=sys.stderr)


def _usage_error(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
    else:
        _say(message[:1].lower() + message[1:], f"See: {context.command_path if context else 'seamless'} --help")
    return int(getattr(error, "exit_code", 2))


def _bug(error: Exception) -> tuple[str, str]:
    """What to say of an error that nobody foresaw. The traceback goes to a file, not to the user's terminal."""
    import time
    import traceback

    file = state_dir() / f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(f"seamless {__version__}\n{sys.argv}\n\n{''.join(traceback.format_exception(error))}")
        where = f"Please report it with {file}"
    except OSError as unwritable:
        where = f"Its traceback could not be written to {file}: {unwritable.strerror}"
    return f"this is a bug in Seamless: {type(error).__name__}: {error}", where


def _discard_stdout() -> None:
    """The reader has gone: keep the interpreter's last flush from failing too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
