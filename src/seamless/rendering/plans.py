"""What a run would do, in lines. A pure function from the API's JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from seamless.logtext import plain
from seamless.model import short
from seamless.rendering.runs import brief_ref, ref_name

if TYPE_CHECKING:
    from seamless.wire_plans import PlanJSON, PlannedDeployJSON

_WIDTH = 18


def plan_lines(plan: PlanJSON) -> list[Text]:
    """The stages in order, with why one has nothing to do, and what each deployment would change."""
    return list(_lines(plan))


def _lines(plan: PlanJSON) -> Iterator[Text]:
    yield Text(f"{plain(plan['service'])} {short(plan['commit'])} of {plain(ref_name(plan['ref']))} would run:")
    deploys = {f"deploy_{deploy['environment']}": deploy for deploy in plan["deploys"]}
    for stage in plan["stages"]:
        name, deploy = stage["name"], deploys.get(stage["name"])
        if deploy is None:
            note = f"skipped: {stage['skipped']}" if stage["skipped"] else ""
            if name == "build" and plan["image"] is not None:
                note = f"uses {brief_ref(plan['image'])} again"
            yield Text(f"  {name:<{_WIDTH}}{plain(note)}".rstrip())
            continue
        waits = ", after an approval" if plan["approval"] and deploy["environment"] == "production" else ""
        yield Text(f"  {name:<{_WIDTH}}{deploy['target']}{waits}")
        yield from _changes(deploy)


def _changes(deploy: PlannedDeployJSON) -> Iterator[Text]:
    if deploy["problem"] is not None:
        yield Text(f"    {plain(deploy['problem'])}", "yellow")
    elif deploy["target"] == "ecs" and not deploy["difference"]:
        yield Text("    the task definition stays as it is", "dim")
    for line in deploy["difference"]:
        yield Text(f"    {plain(line)}")
