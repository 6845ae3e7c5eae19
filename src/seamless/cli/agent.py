"""`seamless agent`: run, start, stop and ask after the daemon."""

from __future__ import annotations

import gc
import sys
from typing import Annotated, Final

import typer

from seamless.cli.session import print_json, session_of

_AGENT: Final = """Run, start, stop or ask after the daemon.

\b
Examples:
  seamless agent start
  seamless agent status
  sudo seamless agent install
"""
app = typer.Typer(no_args_is_help=True, help=_AGENT)


@app.command()
def run(context: typer.Context) -> None:
    """Run the agent in the foreground.

    Ctrl-C or SIGTERM ends it; stages that run go on in their containers.

    \b
    Example:
      seamless --config /etc/seamless/config.toml agent run
    """
    gc.disable()  # importing makes no garbage, and looking for it takes a tenth of the time
    from seamless.agent.main import serve

    gc.freeze()  # nor is what was imported looked through at every full collection, which would hold up the event loop
    gc.enable()
    raise typer.Exit(serve(session_of(context).config_file))


@app.command()
def start(context: typer.Context) -> None:
    """Start the agent in the background.

    Returns when it is ready. Its log is agent.log in the data directory; that of an installed service is the journal's
    (journalctl -u seamless), and systemd starts it.

    \b
    Example:
      seamless agent start
    """
    from seamless.cli import daemon

    session = session_of(context)
    agent, is_new = daemon.start(session)
    print(f"the agent is {'ready' if is_new else 'running already'} (pid {agent['pid']}, {session.socket_path})")
    if agent["config_error"]:
        print(f"seamless: not in force: {agent['config_error']}", file=sys.stderr)
    for trouble in agent["trouble"]:
        print(f"seamless: no new work is taken: {trouble}", file=sys.stderr)


@app.command()
def stop(context: typer.Context) -> None:
    """Stop the agent.

    Stages that run go on in their containers, and the next agent takes them up.

    \b
    Example:
      seamless agent stop
    """
    from seamless.cli import daemon

    pid = daemon.stop(session_of(context))
    print(f"the agent (pid {pid}) has ended; stages that were running go on in their containers")


@app.command()
def reload(context: typer.Context) -> None:
    """Make the agent read its configuration again.

    It also does so by itself when the file changes. One that is wrong changes nothing, and is told.

    \b
    Example:
      seamless agent reload
    """
    with session_of(context).agent(tells_of_config=True) as agent:
        answer = agent.reload()
    print(f"{answer['config_file']} is in force")


@app.command()
def install(
    context: typer.Context,
    user: Annotated[str, typer.Option(metavar="NAME", help="Who the agent is; made when there is none.")] = "seamless",
    force: Annotated[bool, typer.Option("--force", help="Replace a unit file that was changed by hand.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, as a shell takes it.")] = False,
) -> None:
    """Install the agent as a systemd service.

    With a user of its own, a watchdog, and no more rights than it needs. The configuration is
    /etc/seamless/config.toml. Calling it again changes only what is not right; the agent is started anew only when its
    unit changed.

    Secrets lie in /etc/seamless/credentials, for root alone. What the configuration calls the file NAME there:

    \b
      { file = "/run/credentials/seamless.service/secret_NAME" }

    \b
    Examples:
      seamless agent install --dry-run
      sudo seamless agent install
    """
    from seamless.cli import installing
    from seamless.cli.unit import UNIT_FILE

    unit = installing.unit_for(session_of(context).config_file, user)
    if not dry_run:
        installing.check_root("install")
        installing.check_host(user)
        installing.keep_changed(force, first="move the changes to a drop-in (sudo systemctl edit seamless), then ")
    elif installing.is_changed():
        print(f"# {UNIT_FILE} was changed by hand: it takes --force, which keeps it beside the new one")
    booted = installing.is_booted()
    steps = installing.install_steps(
        unit, present=installing.present_unit(), has_user=installing.has_user(user), booted=booted
    )
    for step in steps:
        print(step if dry_run else f"+ {str(step).splitlines()[0]}")
        if not dry_run:
            installing.carry_out(step)
    if not dry_run:
        ready = "runs, and starts with the host" if booted else "starts with the host; systemd does not run it now"
        print(f"the agent {ready}. Who may use it: sudo usermod -aG {user} NAME")


@app.command()
def uninstall(
    force: Annotated[bool, typer.Option("--force", help="Also a unit file that was changed by hand.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
) -> None:
    """Remove the systemd service.

    The agent ends; stages that run go on in their containers. Data, configuration, credentials and the user stay.

    \b
    Example:
      sudo seamless agent uninstall
    """
    from seamless.cli import installing
    from seamless.cli.unit import UNIT_FILE

    if installing.present_unit() is None:
        print("the service is not installed")
        return
    if not dry_run:
        installing.check_root("uninstall")
        installing.keep_changed(force)
    elif installing.is_changed():
        print(f"# {UNIT_FILE} was changed by hand: it takes --force, which keeps it")
    for step in installing.uninstall_steps(booted=installing.is_booted()):
        print(step if dry_run else f"+ {step}")
        if not dry_run:
            installing.carry_out(step)
    if not dry_run:
        print("the service is removed; what it knew is still there: /etc/seamless, the data directory and the user")


@app.command()
def status(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Tell whether an agent answers, and which.

    Ends with 3 when none does.

    \b
    Example:
      seamless agent status --json
    """
    session = session_of(context)
    with session.agent(tells_of_config=True) as agent:
        answer = agent.version()
    if as_json:
        print_json(answer)
        return
    print(f"agent {answer['version']} is {'ready' if answer['ready'] else 'starting'} (pid {answer['pid']})")
    print(f"  socket         {session.socket_path}")
    print(f"  configuration  {answer['config_file']}")
    print(f"  data           {answer['data_dir']}")
    if answer["config_error"]:
        print(f"  not in force   {answer['config_error']}")
    for trouble in answer["trouble"]:
        print(f"  no new work    {trouble}")
