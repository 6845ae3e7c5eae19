"""Why a deployment to ECS failed: from what ECS, its tasks and their logs say, in lines and in one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from seamless.errors import SeamlessError
from seamless.targets.ecs_plan import container_of, short_name
from seamless.targets.ecs_service import EcsService, log_stream

_LOG_LINES: Final = 20
_EVENTS: Final = 10
_KILLED: Final = 137
# From ECS's list of stopped task errors, the most telling first:
# docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
_TELLING: Final = (
    (re.compile(r"CannotPull\w*|pull (?:image|command) failed|ImageNotFound", re.I), "the image cannot be pulled"),
    (re.compile(r"ResourceInitializationError", re.I), "the task's resources cannot be had"),
    (re.compile(r"OutOfMemory", re.I), "out of memory"),
    (re.compile(r"failed ELB health checks", re.I), "the load balancer's health checks failed"),
    (re.compile(r"failed (?:container|Amazon ECS) health checks", re.I), "the container's health check failed"),
    (re.compile(r"CannotStartContainer|CannotCreateContainer", re.I), "the container cannot be started"),
    (re.compile(r"capacity|RESOURCE:|no container instance", re.I), "there is no room for the task"),
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`cause`: a sentence for the run's reason; `lines`: all that was seen, for its log."""

    cause: str | None
    lines: list[str] = field(default_factory=list)


def container_end(container: Mapping[str, Any]) -> str | None:
    """How a container ended: "app: out of memory (exit code 137)"; None when nothing speaks against it."""
    code, said = container.get("exitCode"), str(container.get("reason") or "")
    name = container["name"]
    if re.search("OutOfMemory", said, re.I):
        return f"{name}: out of memory (exit code {code})" if code is not None else f"{name}: out of memory"
    if code is None:
        return f"{name}: {said}" if said else None
    if container.get("healthStatus") == "UNHEALTHY":
        return f"{name}: its health check says unhealthy (exit code {code})"
    if code == 0 and not said:
        return None
    told = f"{name}: exit code {code}" + (", killed" if code == _KILLED else "")
    return f"{told}: {said}" if said else told


def task_lines(task: Mapping[str, Any]) -> list[str]:
    """A stopped task: its code and reason, and each container that did not end well."""
    return _lines_of_alike([task])


def tasks_lines(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Stopped tasks, newest first; those that ended alike are told once."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for task in tasks:
        groups.setdefault(tuple(_ends(task)), []).append(task)
    return [line for alike in groups.values() for line in _lines_of_alike(alike)]


def _lines_of_alike(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    how, *containers = _ends(tasks[0])
    name = short_name(tasks[0]["taskArn"])
    which = f"task {name}" if len(tasks) == 1 else f"{len(tasks)} tasks, last {name}"
    return [f"{which}: {how}", *(f"  {end}" for end in containers)]


def _ends(task: Mapping[str, Any]) -> list[str]:
    """How a task ended, then each container that did not end well."""
    code = task.get("stopCode") or task.get("lastStatus", "STOPPED")
    ends = (container_end(each) for each in task.get("containers", []))
    return [f"{code}: {task.get('stoppedReason') or 'no reason given'}", *(end for end in ends if end is not None)]


def cause_of(tasks: Sequence[Mapping[str, Any]], said: Sequence[str], own: str) -> str | None:
    """The most telling of what tasks and ECS say, as a sentence; None when nothing tells anything.

    `said`: reasons and events in ECS's words; `own`: the service's own container.
    """
    for task in tasks:
        containers = sorted(task.get("containers", []), key=lambda each: each["name"] != own)
        reasons = [str(task.get("stoppedReason") or ""), *(str(each.get("reason") or "") for each in containers)]
        known = _known(reasons)
        if known is not None:
            return known
        for container in containers:
            if container.get("exitCode"):
                return container_end(container)
    return _known(said)


def _known(texts: Sequence[str]) -> str | None:
    for pattern, words in _TELLING:
        for text in texts:
            if pattern.search(text):
                return f"{words}: {_line(text)}" if "memory" not in words else words
    return None


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


async def explain(
    ecs: EcsService,
    service: Mapping[str, Any],
    definition: Mapping[str, Any],
    container: str,
    deployment: str,
    since: float,
) -> Explanation:
    """All that can be read about a deployment that failed. What cannot be read is left out, saying so."""
    lines: list[str] = []
    said: list[str] = []
    mine = next((each for each in service["deployments"] if each["id"] == deployment), None)
    if mine is not None and mine.get("rolloutStateReason"):
        said.append(mine["rolloutStateReason"])
        lines.append(f"ECS: {mine['rolloutStateReason']}")
    alarms: list[str] = []
    try:
        known = await ecs.service_deployment(definition["taskDefinitionArn"], since) or {}
        lines += _of_service_deployment(known, said)
        alarms = _alarms(known)
    except SeamlessError as error:
        lines.append(f"not read: {error.message}")
    events = events_since(service, since)
    said += [event["message"] for event in events]
    lines += [f"event: {event['message']}" for event in events[-_EVENTS:]]
    try:
        tasks = await ecs.stopped_tasks(deployment) if deployment else []
    except SeamlessError as error:
        tasks = []
        lines.append(f"not read: {error.message}")
    lines += tasks_lines(tasks)
    if tasks:
        lines += await last_lines(ecs, definition, container, tasks[0]["taskArn"])
    cause = f"the alarm {', '.join(alarms)} went off" if alarms else cause_of(tasks, said, container)
    return Explanation(cause, lines)


def _of_service_deployment(known: Mapping[str, Any], said: Sequence[str]) -> list[str]:
    lines = []
    if known.get("statusReason") and known["statusReason"] not in said:
        lines.append(f"ECS: {known.get('status')}: {known['statusReason']}")
    if (known.get("rollback") or {}).get("reason"):
        lines.append(f"ECS rolled back: {known['rollback']['reason']}")
    breaker = known.get("deploymentCircuitBreaker") or {}
    if breaker.get("status") == "TRIGGERED":
        lines.append(
            f"circuit breaker: {breaker.get('failureCount')} failed tasks, its threshold is {breaker.get('threshold')}"
        )
    return lines + [f"alarm: {name}" for name in _alarms(known)]


def _alarms(known: Mapping[str, Any]) -> list[str]:
    """Deployment alarms that went off."""
    return [str(name) for name in (known.get("alarms") or {}).get("triggeredAlarmNames") or ()]


def events_since(service: Mapping[str, Any], since: float) -> list[Mapping[str, Any]]:
    """A service's events after that time of ECS's own clock, oldest first, each once."""
    fresh = {each["id"]: each for each in service.get("events", []) if each["createdAt"].timestamp() > since}
    return sorted(fresh.values(), key=lambda each: each["createdAt"])


async def last_lines(ecs: EcsService, definition: Mapping[str, Any], container: str, task: str) -> list[str]:
    """The end of a container's log, when it is in CloudWatch Logs."""
    stream = log_stream(container_of(definition, container), task)
    if stream is None:
        return [f"the log of {container} is not in CloudWatch Logs (log driver awslogs with a stream prefix)"]
    try:
        found = await ecs.last_log_lines(*stream, _LOG_LINES)
    except SeamlessError as error:
        return [f"the log of {container} cannot be read: {error.message}"]
    return [f"the last lines of {container}:", *(f"  {line.rstrip()}" for line in found)] if found else []
