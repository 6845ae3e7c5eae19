"""Environments in AWS as text: a plan before it is confirmed, a stack while it changes, and what is there.

Pure functions from the API's JSON to lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from seamless.logtext import plain
from seamless.rendering.formats import age_of, local_clock
from seamless.rendering.runs import Viewer
from seamless.rendering.tables import table

if TYPE_CHECKING:
    from seamless.wire_environments import EnvironmentJSON, EnvironmentPlanJSON, StackEventJSON, StackResultJSON

_KINDS: Final = {  # CloudFormation's type -> (one, several)
    "AWS::ECS::Cluster": ("cluster", "clusters"),
    "AWS::ECS::Service": ("service", "services"),
    "AWS::ECS::TaskDefinition": ("task definition", "task definitions"),
    "AWS::EC2::SecurityGroup": ("security group", "security groups"),
    "AWS::IAM::Role": ("role", "roles"),
    "AWS::Logs::LogGroup": ("log group", "log groups"),
    "AWS::ServiceDiscovery::HttpNamespace": ("namespace", "namespaces"),
    "AWS::CloudFormation::Stack": ("stack", "stacks"),
}
_VERBS: Final = {"add": "creates", "change": "changes", "remove": "deletes"}
_STYLES: Final = {"add": "green", "change": "yellow", "remove": "red"}


def plan_lines(plan: EnvironmentPlanJSON) -> list[Text]:
    """What would be made or changed, and what it costs."""
    facts = plan["facts"]
    heads = {"create": "a new stack", "change": "changes to the stack", "nothing": "nothing to change in the stack"}
    lines = [
        Text.assemble(
            (plan["environment"], "bold"), f" in {plan['region']}: {heads[plan['action']]} {plain(plan['stack'])}"
        ),
        _fact("cluster", f"{plan['cluster']}, {facts['architecture']}"),
        _fact("network", f"{facts['vpc']}, {_network(facts)}"),
    ]
    lines += [Text(f"  {line.plain}") for line in _services_table(facts["services"])]
    for action in _VERBS:
        counted = _counted([one["type"] for one in plan["changes"] if one["action"] == action])
        if counted:
            lines.append(_fact(_VERBS[action], counted, _STYLES[action]))
    if plan["deployed_anew"]:
        named = plain(", ".join(plan["deployed_anew"]))
        lines.append(_fact("restarts", f"{named}: new tasks with the image that runs now"))
    lines.append(
        _fact(
            "costs",
            f"about {plan['monthly_usd']:.0f} USD a month for these tasks at the list price of us-east-1; other "
            "regions differ. Load balancers, logs and traffic come on top",
        )
    )
    return lines


def _fact(name: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"  {name:<10}", "dim"), (plain(value), style), no_wrap=True)


def _network(facts: Mapping[str, Any]) -> str:
    public = "public" if facts["public_address"] else "private"
    return f"{len(facts['subnets'])} subnets, tasks with {public} addresses"


def _services_table(services: Sequence[Mapping[str, Any]]) -> list[Text]:
    return table(
        ["service", "tasks", "cpu", "memory", "port", "reached from"],
        [
            [
                plain(service["name"]),
                str(service["count"]),
                f"{service['cpu'] / 1024:g} vCPU",
                f"{service['memory']} MiB",
                str(service.get("port") or "-"),
                _reached_from(service),
            ]
            for service in services
        ],
    )


def _reached_from(service: Mapping[str, Any]) -> str:
    if service.get("target_group"):
        return f"outside, by {plain(service['target_group'].split('/')[1])}"
    return f"inside, as {plain(service['name'])}:{service['port']}" if service.get("port") else "nowhere"


def _counted(types: Sequence[str]) -> str:
    """`2 services, 4 roles`."""
    parts = []
    for kind in dict.fromkeys(types):
        one, several = _KINDS.get(kind, (kind, kind))
        count = types.count(kind)
        parts.append(f"{count} {one if count == 1 else several}")
    return ", ".join(parts)


def state_of(status: str) -> str:
    """CloudFormation's status in the words whose glyphs and styles runs have."""
    if "ROLLBACK" in status and status.endswith("_COMPLETE"):
        return "rolled_back"
    if status.endswith("_FAILED"):
        return "failure"
    if status.endswith("_COMPLETE"):
        return "success"
    return "in_progress"


_STATE_STYLES: Final = {"success": "green", "failure": "red", "in_progress": "cyan", "rolled_back": "yellow"}


def event_line(event: StackEventJSON) -> str:
    """`14:02:11 service PaymentService create in progress`: for a pipe, and for what went wrong."""
    words = event["status"].lower().replace("_", " ")
    kind = _KINDS.get(event["type"], (event["type"], ""))[0]
    reason = f": {plain(event['reason'])}" if event["reason"] else ""
    return f"{local_clock(event['at'])} {kind} {plain(event['resource'])} {words}{reason}"


def resource_lines(latest: Mapping[str, StackEventJSON], viewer: Viewer) -> list[Text]:
    """A line for each resource with its newest state, for a terminal; finished ones are counted only."""
    finished = [one for one in latest.values() if state_of(one["status"]) == "success"]
    lines = [Text(f"  {viewer.glyph('success')} {len(finished)} done", "green")] if finished else []
    for name, event in latest.items():
        state = state_of(event["status"])
        if state == "success":
            continue
        kind = _KINDS.get(event["type"], (event["type"], ""))[0]
        line = Text.assemble((f"  {viewer.glyph(state)} ", _STATE_STYLES[state]), f"{kind} {plain(name)}", no_wrap=True)
        line.append(f"  {event['status'].lower().replace('_', ' ')}", "dim")
        lines.append(line)
    return lines


def result_lines(environment: str, action: str, result: StackResultJSON, viewer: Viewer) -> list[Text]:
    """How it ended, and why it failed."""
    if result["ok"]:
        words = {"create": "is up", "change": "has changed", "delete": "is gone"}[action]
        return [Text.assemble((f"{viewer.glyph('success')} ", "green"), (f"{environment} {words}", "bold"))]
    became = {
        "DELETE_COMPLETE": "all that was made is removed again",
        "UPDATE_ROLLBACK_COMPLETE": "CloudFormation went back to what was",
    }.get(result["status"], f"the stack is {result['status']}")
    lines = [
        Text.assemble((f"{viewer.glyph('failure')} ", "red"), (f"{environment} failed", "bold"), f": {plain(became)}")
    ]
    return lines + [Text(f"  {plain(reason)}") for reason in result["reasons"]]


def environment_lines(found: EnvironmentJSON, viewer: Viewer) -> list[Text]:
    """What is in AWS now."""
    stack = found["stack"]
    lines = [Text.assemble((found["environment"], "bold"), f"  cluster {found['cluster']} in {found['region']}")]
    if stack is None:
        lines.append(Text("  no stack of Seamless's", "dim"))
    else:
        state = state_of(stack["status"])
        glyph = (f"{viewer.glyph(state)} ", _STATE_STYLES[state])
        since = f"{plain(stack['name'])} {stack['status']} for {age_of(stack['changed_at'], viewer.now)}"
        lines.append(Text.assemble("  ", glyph, since))
        if stack["reason"]:
            lines.append(Text(f"    {plain(stack['reason'])}", "dim"))
    if not found["configured"]:
        lines.append(Text(f"  {not_configured(found)}", "yellow"))
    if found["services"]:
        rows = [
            [
                plain(one["name"]),
                f"{one['running']} of {one['desired']}" + (f", {one['pending']} starting" if one["pending"] else ""),
                plain(one["rollout"] or "-").lower().replace("_", " "),
                plain(one["task_definition"]),
            ]
            for one in found["services"]
        ]
        lines += [Text(f"  {line.plain}") for line in table(["service", "tasks", "rollout", "task definition"], rows)]
    return lines


def not_configured(found: EnvironmentJSON) -> str:
    keys = f'target = "ecs", region = "{found["region"]}", cluster = "{found["cluster"]}"'
    return f"to deploy there: [environments.{found['environment']}] {keys}"


def settings_text(environment: str, region: str, cluster: str) -> str:
    """What the configuration needs to deploy there."""
    return f'[environments.{environment}]\ntarget = "ecs"\nregion = "{region}"\ncluster = "{cluster}"\n'
