"""`seamless env`: environments in AWS, made, shown and taken down as one CloudFormation stack each."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from seamless.cli import asking, completing
from seamless.cli.session import Session, print_json, print_json_line, session_of, user_name
from seamless.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire_environments import (
        EnvironmentJSON,
        EnvironmentPlanJSON,
        EnvironmentRequest,
        ServiceFactsRequest,
        StackOperationJSON,
    )

_ENV: Final = """Make, show and take down environments in AWS.

\b
Examples:
  seamless env up staging --plan
  seamless env show staging
"""
app = typer.Typer(no_args_is_help=True, help=_ENV)
Name = Annotated[str, typer.Argument(metavar="NAME", help="staging or production.", callback=lambda name: _known(name))]
Region = Annotated[
    str | None, typer.Option("--region", metavar="REGION", show_default=False, help="Default: as configured.")
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="NAME", show_default=False, help="Default: as configured, else NAME."),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON; progress as NDJSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

_NUMBERS = ("port", "cpu", "memory", "count")


@app.command()
def up(
    context: typer.Context,
    name: Name,
    region: Region = None,
    cluster: Cluster = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,KEY=VALUE…]",
            show_default=False,
            help="A service and what differs for it: port, cpu (1024 are one vCPU), memory (MiB), count, "
            "target-group (an ARN, makes it public). Again for each. Default: all configured.",
        ),
    ] = None,
    cpu: Annotated[
        int | None, typer.Option(metavar="UNITS", show_default=False, help="CPU of each; 1024: one vCPU.")
    ] = None,
    memory: Annotated[int | None, typer.Option(metavar="MIB", show_default=False, help="Memory of each.")] = None,
    count: Annotated[int | None, typer.Option(metavar="N", show_default=False, help="Tasks of each.")] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE", autocompletion=completing.services, show_default=False, help="Take a service out again."
        ),
    ] = None,
    vpc: Annotated[
        str | None, typer.Option(metavar="ID", show_default=False, help="Default: the region's default VPC.")
    ] = None,
    subnet: Annotated[
        list[str] | None, typer.Option(metavar="ID", show_default=False, help="Again for each. Default: the VPC's.")
    ] = None,
    public_address: Annotated[
        bool | None,
        typer.Option(
            "--public-address/--private", show_default=False, help="Of the tasks. Default: as the subnets have it."
        ),
    ] = None,
    arm: Annotated[bool, typer.Option("--arm", help="Tasks run on ARM64; their images must be built for it.")] = False,
    log_days: Annotated[int | None, typer.Option(metavar="DAYS", show_default=False, help="Default: 30.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="ARN", show_default=False, help="A KMS key of your own that encrypts secrets."),
    ] = None,
    placeholder: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", show_default=False, help="Busybox, for networks without a way to public ECR."),
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="S3 bucket for a large template.")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Print the CloudFormation template, and stop.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make an environment in AWS, or change it.

    Creates a cluster with Service Connect, and for each service roles with least privilege, a log group, a security
    group, a task definition and a service, as one CloudFormation stack that is rolled back when it fails. Shows what it
    will do and what that costs, and asks. What is not named stays as it is.

    \b
    Examples:
      seamless env up staging
      seamless env up staging --service payment,cpu=512,memory=1024,count=2
      seamless env up production --plan
    """
    session = session_of(context)
    asked: EnvironmentRequest = {
        "region": region,
        "cluster": cluster,
        "vpc": vpc,
        "subnets": subnet or [],
        "public_address": public_address,
        "architecture": "ARM64" if arm else None,
        "log_days": log_days,
        "keys": key or [],
        "placeholder": placeholder,
        "remove": remove or [],
        "bucket": bucket,
        "services": {},
    }
    common: dict[str, Any] = {"cpu": cpu, "memory": memory, "count": count}
    with session.agent() as agent:
        asked["services"] = _services(agent, name, asked, service or [], common)
        plan = agent.environments.plan(name, asked)
        if template:
            sys.stdout.write(plan["template"] + "\n")
            return
        _show_plan(session, plan, as_json=as_json and plan_only)
        if plan_only or plan["action"] == "nothing":
            return
        if not yes:
            _need_terminal("--yes")
            asking.confirm(f"{'Make' if plan['action'] == 'create' else 'Change'} {name}?", yes=False)
        asked["fingerprint"] = plan["fingerprint"]
        operation = agent.environments.up(name, asked)
        code = _follow(session, agent, name, operation, (plan["region"], plan["cluster"]), as_json=as_json)
        show_settings = code == 0 and plan["action"] == "create" and not as_json
        if show_settings:
            show_settings = not agent.environments.show(name, region=region, cluster=cluster)["configured"]
    if show_settings:
        from seamless.rendering.environments import settings_text

        print(f"\nTo deploy there, the configuration needs:\n\n{settings_text(name, plan['region'], plan['cluster'])}")
    raise typer.Exit(code)


@app.command()
def show(
    context: typer.Context,
    name: Name,
    region: Region = None,
    cluster: Cluster = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow a change of its stack to the end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show an environment as it is in AWS now.

    \b
    Example:
      seamless env show staging
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.environments.show(name, region=region, cluster=cluster)
        stack = found["stack"]
        if follow and stack is not None and stack["status"].endswith("_IN_PROGRESS"):
            action = {"CREATE": "create", "DELETE": "delete"}.get(stack["status"].partition("_")[0], "change")
            operation: StackOperationJSON = {"stack": stack, "since": stack["changed_at"], "action": action}
            where = (found["region"], found["cluster"])
            raise typer.Exit(_follow(session, agent, name, operation, where, as_json=as_json))
    if as_json:
        print_json(found)
        return
    from seamless.rendering.environments import environment_lines
    from seamless.rendering.runs import Viewer

    for line in environment_lines(found, Viewer.at_present(user_name())):
        session.console.print(line)


@app.command()
def down(
    context: typer.Context,
    name: Name,
    region: Region = None,
    cluster: Cluster = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm", metavar="NAME", show_default=False, help="The environment's name, instead of typing."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete what env up made, and nothing else.

    The services, their logs and the cluster are gone then. Images and secrets stay. Asks for the environment's name.

    \b
    Example:
      seamless env down staging
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.environments.show(name, region=region, cluster=cluster)
        if confirm is None and not as_json:
            from seamless.rendering.environments import environment_lines
            from seamless.rendering.runs import Viewer

            for line in environment_lines(found, Viewer.at_present(user_name())):
                session.console.print(line)
        if confirm is None:
            _need_terminal("--confirm NAME")
            confirm = asking.ask(f"Type {name} to delete all this, its logs too", "", lambda text: None)
        operation = agent.environments.down(name, confirm, region=region, cluster=cluster)
        where = (found["region"], found["cluster"])
        raise typer.Exit(_follow(session, agent, name, operation, where, as_json=as_json))


def _services(
    agent: Client, name: str, asked: EnvironmentRequest, written: list[str], common: dict[str, Any]
) -> dict[str, ServiceFactsRequest]:
    """What was asked for with --service; of a person at a terminal who makes an environment, what they answer."""
    from seamless.cli.environment_questions import ask_for

    found = dict(_service(one) for one in written)
    given = {key: value for key, value in common.items() if value is not None}
    if not found and not asked.get("remove") and (given or sys.stdin.isatty()):
        environment = _looked_at(agent, name, asked)
        known, ours = environment["facts"], environment["configured_services"]
        if known is not None:
            there = {service["name"] for service in known["services"]} if given else set()
            found = {one: {} for one, in_ecs in ours.items() if in_ecs in there}
        else:
            found = {one: {} if given else ask_for(agent, one, environment["sizes"]) for one in ours}
    return {one: {**given, **facts} for one, facts in found.items()}  # type: ignore[typeddict-item]


def _looked_at(agent: Client, name: str, asked: EnvironmentRequest) -> EnvironmentJSON:
    """The environment as it is. Of a person who names no region where none is configured, asks it."""
    try:
        return agent.environments.show(name, region=asked["region"], cluster=asked["cluster"])
    except ConfigError as error:
        if asked["region"] is not None or "no region" not in error.message or not sys.stdin.isatty():
            raise
        from seamless.cli.environment_questions import ask_region

        asked["region"] = ask_region()
        return agent.environments.show(name, region=asked["region"], cluster=asked["cluster"])


def _service(written: str) -> tuple[str, ServiceFactsRequest]:
    """`payment,cpu=512,target-group=arn:…` -> its name and what differs. Raises UsageError."""
    name, *pairs = written.split(",")
    facts: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key in _NUMBERS and value.isdigit():
            facts[key] = int(value)
        elif key == "target-group" and value:
            facts["target_group"] = value
        elif key in _NUMBERS and equals:
            raise UsageError(f"--service {name}: {key} must be a whole number, not {value!r}")
        else:
            hint = f"KEY=VALUE with {', '.join(_NUMBERS)} or target-group"
            raise UsageError(f"--service {name}: {pair!r} says nothing", hint=hint)
    return name, facts  # type: ignore[return-value]


def _show_plan(session: Session, plan: EnvironmentPlanJSON, *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    from seamless.rendering.environments import plan_lines

    for line in plan_lines(plan):
        session.console.print(line)


def _known(name: str) -> str:
    if name not in ("staging", "production"):
        raise UsageError(f"there is no environment {name!r}", hint="staging or production")
    return name


def _need_terminal(instead: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at, and nothing was changed", hint=f"give {instead}")


def _follow(
    session: Session, agent: Client, name: str, operation: StackOperationJSON, where: tuple[str, str], *, as_json: bool
) -> int:
    """Shows the stack's progress to its end; returns the exit code. `where`: region and cluster. Interrupted, the stack
    goes on.
    """
    from seamless.cli.stack_progress import show_progress

    steps = agent.environments.follow(name, operation, region=where[0], cluster=where[1])
    if as_json:
        code = 1
        for step in steps:
            print_json_line(step)
            if "result" in step:
                code = int(not step["result"]["ok"])
        return code
    return show_progress(session, name, operation["action"], steps)
