"""`seamless host`: a build host in AWS."""

from __future__ import annotations

import typer

from seamless.cli.session import print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def host() -> None:
    """Make a build host in AWS.

    \b
    Example:
      seamless host template > build-host.json
    """


@app.command()
def template() -> None:
    """Print the template of a build host in AWS.

    For CloudFormation: one EC2 instance with an encrypted data volume, reached by Session Manager only; a role that may
    do what the agent does in AWS; user data that installs Seamless and starts the agent. Everything about it is a
    parameter of the stack. docs/build-host.md goes through it.

    \b
    Examples:
      seamless host template > build-host.json
      aws cloudformation deploy --stack-name build-host \\
          --template-file build-host.json --capabilities CAPABILITY_IAM \\
          --parameter-overrides Vpc=… Subnet=… Zone=… Image=… Source=…
    """
    from seamless.aws.build_host import render

    print_json(render())
