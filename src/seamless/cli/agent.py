"""`seamless agent`: run, start, stop and ask after the daemon."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from seamless.cli.session import print_json, session_of

app = typer.Typer(no_args_is_help=True, help="Run, start, stop or ask after the daemon.")


@app.command()
def run(context: typer.Context) -> None:
    """Run the agent in the foreground.

    Ctrl-C or SIGTERM ends it; stages that run go on in their containers.

    \b
    Example:
      seamless --config /etc/seamless/config.toml agent run
    """
    from seamless.agent.main import serve

    raise typer.Exit(serve(session_of(context).config_file))


@app.command()
def start(context: typer.Context) -> None:
    """Start the agent in the background.

    Returns when it is ready. Its log is agent.log in the data directory.

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
def status(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Tell whether an agent answers, and which.

    Ends with 3 when none does.

    \b
    Example:
      seamless agent status --json
    """
    session = session_of(context)
    with session.agent() as agent:
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
