"""A scripted ECS that answers over HTTP, for what moto has no notion of: how a deployment goes.

A scenario is a table, one row for each change, in seconds after the UpdateService that began the deployment:

    Row(0, "going", running=0, event="has started 2 tasks")
    Row(9, "failed", reason="tasks failed to start", task=Stopped("Essential container exited", exit_code=1))

The clock `now` is scripted too: who plays moves it, so that a deployment of ten minutes takes milliseconds.
Requests are botocore's own, with its validation on; every one is kept in `requests`.
Tests that use it are simulations, and marked `fake`.
"""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.aws_server import Fault, RefusalError
from harness.ecs_rows import BACK, Row, Stopped

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-central-1"
_ARN: Final = f"arn:aws:ecs:{REGION}:{ACCOUNT}:"
_START: Final = 1_700_000_000.0


class ScriptedEcs:
    """One cluster `prod` with one service `web` that runs revision 1 of its task definition."""

    def __init__(
        self, definition: Mapping[str, Any], *, desired: int = 2, breaker: Mapping[str, bool] | None = None
    ) -> None:
        self.lock = threading.RLock()
        self.now = _START
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.throttles_each = False  # the first call of every operation
        self.stale_reads = 0  # after each UpdateService
        self.stale_at: frozenset[int] = frozenset()  # which reads after an UpdateService are of the time before it
        self.stale_updates = False  # UpdateService answers what was there before it
        self.scripts: list[Sequence[Row]] = []  # of the next UpdateServices; then BACK
        self.lists_service_deployments = True
        self.task_ends: list[Mapping[str, Any]] = []  # of the next RunTasks
        self.task_takes_s = 10.0
        self.task_stops_s = 0.0  # after a StopTask
        self.other: dict[str, Any] = {}  # of what DescribeServices says of the service
        self.page = 4  # of what is listed
        self.alarms: dict[str, Any] = {}  # of the service's deploymentConfiguration
        self.tick_s = 0.0  # that each look at the service or at tasks moves the clock, when nobody else does
        self.trail: list[dict[str, Any]] = []
        self.desired = desired
        self.breaker = dict(breaker or {"enable": False, "rollback": False})
        self.definitions: list[dict[str, Any]] = []
        self.tags: dict[str, list[dict[str, str]]] = {}
        self.events: list[dict[str, Any]] = []
        self.tasks: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[str]] = {}
        self.stops: list[str] = []
        self.network: dict[str, Any] | None = None
        self._throttled: set[str] = set()
        self._stale: tuple[int, dict[str, Any]] | None = None
        self._reads = 0
        self._clients: dict[str, str] = {}
        first = self._register(dict(definition), [])
        self.deployments = [self._deployment(first, "PRIMARY", "COMPLETED", desired, ())]
        self.history: list[dict[str, Any]] = []  # service deployments
        self._event("(service web) has reached a steady state.")

    # The far end's own doings

    @property
    def primary(self) -> dict[str, Any]:
        return next(each for each in self.deployments if each["status"] == "PRIMARY")

    def calls(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.requests if name == operation]

    def deploy_from_outside(self, image: str = "elsewhere:1") -> str:
        """Somebody else's deployment; the ARN of its task definition."""
        definition = copy.deepcopy(self.definitions[0])
        definition["containerDefinitions"][0]["image"] = image
        arn = self._register(definition, [])
        self._begin(arn, BACK)
        return arn

    def _deployment(self, arn: str, status: str, state: str, running: int, script: Sequence[Row]) -> dict[str, Any]:
        number = sum(1 for _ in getattr(self, "history", ())) + len(self.definitions) * 100
        return {
            "id": f"ecs-svc/{number}{int(self.now - _START)}",
            "status": status,
            "taskDefinition": arn,
            "desiredCount": self.desired,
            "runningCount": running,
            "pendingCount": 0,
            "failedTasks": 0,
            "createdAt": self.now,
            "updatedAt": self.now,
            "rolloutState": state,
            "rolloutStateReason": "",
            "_script": list(script),
        }

    def _begin(self, arn: str, script: Sequence[Row]) -> None:
        for each in self.deployments:
            each["status"] = "ACTIVE"
        self.now += 1
        new = self._deployment(arn, "PRIMARY", "IN_PROGRESS", 0, script)
        self.deployments.insert(0, new)
        number = len(self.history) + 1
        self.history.insert(
            0,
            {
                "serviceDeploymentArn": f"{_ARN}service-deployment/prod/web/{number}",
                "revision": f"{_ARN}service-revision/prod/web/{number}",
                "status": "IN_PROGRESS",
                "createdAt": self.now,
                "failures": 0,
                "of": new["id"],
                "definition": arn,
            },
        )
        self._play()

    def _play(self) -> None:
        """Applies the rows whose time has come."""
        for deployment in list(self.deployments):
            script: list[Row] = deployment["_script"]
            while script and script[0].at <= self.now - deployment["createdAt"]:
                self._apply(deployment, script.pop(0))

    def _apply(self, mine: dict[str, Any], row: Row) -> None:
        mine["runningCount"], mine["failedTasks"] = min(row.running, self.desired), row.failed
        mine["pendingCount"] = self.desired - mine["runningCount"] if row.what == "going" else 0
        mine["rolloutStateReason"] = row.reason
        if row.event:
            self._event(row.event)
        if row.task:
            self._stopped_task(mine, row.task, mine["createdAt"] + row.at)
        match row.what:
            case "completed":
                mine["rolloutState"] = "COMPLETED"
                mine["runningCount"] = self.desired
                self.deployments = [
                    each for each in self.deployments if each is mine or each["createdAt"] > mine["createdAt"]
                ]
                self._record(mine, "SUCCESSFUL")
            case "failed":
                mine["rolloutState"] = "FAILED"
                self._record(mine, "STOPPED", row.reason, row.alarms)
            case "rollback":
                mine["rolloutState"] = "FAILED"
                self._record(mine, "ROLLBACK_IN_PROGRESS", row.reason, row.alarms)
                self._roll_back(mine)
            case "rolled_back":
                self._record(mine, "ROLLBACK_SUCCESSFUL", row.reason, row.alarms)
                self.deployments.remove(mine)
                if self.primary is not mine:
                    self.primary.update(rolloutState="COMPLETED", runningCount=self.desired, pendingCount=0, _script=[])
            case "outside":
                self.deploy_from_outside()
            case "vanished":
                self.deployments.remove(mine)

    def _roll_back(self, mine: dict[str, Any]) -> None:
        completed = next(each for each in self.deployments if each is not mine)
        self.deployments.remove(completed)
        mine["status"] = "ACTIVE"
        script = mine["_script"]
        back = self._deployment(completed["taskDefinition"], "PRIMARY", "IN_PROGRESS", 0, [] if script else BACK)
        back["id"] += "-back"
        back["rolloutStateReason"] = "ECS deployment circuit breaker: rolling back to deploymentId."
        self.deployments.insert(0, back)

    def _record(self, mine: Mapping[str, Any], status: str, reason: str = "", alarms: Sequence[str] = ()) -> None:
        for each in self.history:
            if each["of"] == mine["id"]:
                went_off = list(alarms) or each.get("alarms", [])
                each.update(status=status, reason=reason, failures=mine["failedTasks"], alarms=went_off)

    def _event(self, message: str) -> None:
        self.events.insert(0, {"id": f"event-{len(self.events)}", "createdAt": self.now, "message": message})

    def _stopped_task(self, mine: Mapping[str, Any], task: Stopped, at: float) -> None:
        arn = f"{_ARN}task/prod/task{len(self.tasks)}"
        container: dict[str, Any] = {"name": "app", "lastStatus": "STOPPED"}
        if task.exit_code is not None:
            container["exitCode"] = task.exit_code
        if task.container_reason:
            container["reason"] = task.container_reason
        self.tasks[arn] = {
            "taskArn": arn,
            "startedBy": mine["id"],
            "lastStatus": "STOPPED",
            "stopCode": task.code,
            "stoppedReason": task.reason,
            "stoppedAt": at,
            "containers": [container],
        }
        self.logs[f"web/app/{arn.rpartition('/')[2]}"] = list(task.lines)

    def _register(self, definition: dict[str, Any], tags: list[dict[str, str]]) -> str:
        revision = len(self.definitions) + 1
        arn = f"{_ARN}task-definition/{definition['family']}:{revision}"
        self.definitions.append({**definition, "taskDefinitionArn": arn, "revision": revision, "status": "ACTIVE",
                                 "registeredBy": f"arn:aws:iam::{ACCOUNT}:user/dana"})  # fmt: skip
        self.tags[arn] = tags
        return arn

    # What it answers

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        self._play()
        match operation:
            case "DescribeServices":
                return self._describe(asked)
            case "ListServices":
                return {"serviceArns": [f"{_ARN}service/prod/web"]}
            case "DescribeTaskDefinition":
                return self._definition(asked["taskDefinition"])
            case "RegisterTaskDefinition":
                tags = asked.pop("tags", [])
                return self._definition(self._register(asked, tags))
            case "UpdateService":
                return self._update(asked)
            case "ListServiceDeployments" | "DescribeServiceDeployments" | "DescribeServiceRevisions":
                return self._service_deployments(operation, asked)
            case "StopServiceDeployment":
                return self._stop(asked["serviceDeploymentArn"])
            case "ListTasks":
                stopped = [arn for arn, each in self.tasks.items() if each["lastStatus"] == "STOPPED"]
                begin = int(asked.get("nextToken", 0))
                more = {"nextToken": str(begin + self.page)} if begin + self.page < len(stopped) else {}
                return {"taskArns": stopped[begin : begin + self.page], **more}
            case "DescribeTasks":
                self.now += self.tick_s
                return {"tasks": [self._task(arn) for arn in asked["tasks"] if arn in self.tasks], "failures": []}
            case "RunTask":
                return self._run_task(asked)
            case "StopTask":
                return {"task": self._stop_task(asked["task"], asked["reason"])}
            case "GetLogEvents":
                return self._log_events(asked)
            case "LookupEvents":
                return {"Events": self.trail}
        raise RefusalError("AccessDeniedException", f"not authorized to perform {operation}")

    def _describe(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if asked["cluster"] != "prod":
            raise RefusalError("ClusterNotFoundException", "Cluster not found.")
        self.now += self.tick_s
        if "web" not in asked["services"]:
            return {"services": [], "failures": [{"reason": "MISSING"}]}
        self._reads += 1
        if self._stale is not None and self._reads in self.stale_at:
            return {"services": [self._stale[1]], "failures": []}
        if self._stale is not None and self._stale[0] > 0:
            self._stale = (self._stale[0] - 1, self._stale[1])
            return {"services": [self._stale[1]], "failures": []}
        return {"services": [self._service()], "failures": []}

    def _service(self) -> dict[str, Any]:
        plain = [{k: v for k, v in each.items() if not k.startswith("_")} for each in self.deployments]
        service: dict[str, Any] = {
            "serviceArn": f"{_ARN}service/prod/web",
            "serviceName": "web",
            "clusterArn": f"{_ARN}cluster/prod",
            "status": "ACTIVE",
            "desiredCount": self.desired,
            "launchType": "FARGATE",
            "taskDefinition": self.primary["taskDefinition"],
            "deployments": plain,
            "events": self.events[:100],
            "deploymentConfiguration": {"deploymentCircuitBreaker": self.breaker, "alarms": self.alarms},
            "deploymentController": {"type": "ECS"},
        }
        if self.network is not None:
            service["networkConfiguration"] = {"awsvpcConfiguration": self.network}
        return copy.deepcopy(service | self.other)

    def _definition(self, name: str) -> dict[str, Any]:
        found = [
            each
            for each in self.definitions
            if name in (each["taskDefinitionArn"], each["taskDefinitionArn"].rpartition("/")[2], each["family"])
        ]
        if not found:
            raise RefusalError("ClientException", "Unable to describe task definition.")
        newest = found[-1]
        return {"taskDefinition": copy.deepcopy(newest), "tags": self.tags[newest["taskDefinitionArn"]]}

    def _update(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        arn = asked["taskDefinition"]
        if next(each for each in self.definitions if each["taskDefinitionArn"] == arn)["status"] != "ACTIVE":
            raise RefusalError("ClientException", "TaskDefinition is inactive")
        before = self._service()
        if arn != self.primary["taskDefinition"]:
            self._begin(arn, self.scripts.pop(0) if self.scripts else BACK)
            self._stale, self._reads = (self.stale_reads, before), 0
            if self.stale_updates:
                return {"service": before}
        return {"service": self._service()}

    def _service_deployments(self, operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        if not self.lists_service_deployments:
            raise RefusalError("AccessDeniedException", f"not authorized to perform {operation}")
        if operation == "ListServiceDeployments":
            brief = {"serviceDeploymentArn": "serviceDeploymentArn", "createdAt": "createdAt", "status": "status",
                     "revision": "targetServiceRevisionArn"}  # fmt: skip
            after, begin = asked["createdAt"]["after"], int(asked.get("nextToken", 0))
            found = [{brief[key]: each[key] for key in brief} for each in self.history if each["createdAt"] >= after]
            page: dict[str, Any] = {"serviceDeployments": found[begin : begin + self.page]}
            return page | ({"nextToken": str(begin + self.page)} if begin + self.page < len(found) else {})
        if operation == "DescribeServiceRevisions":
            wanted = [each for each in self.history if each["revision"] in asked["serviceRevisionArns"]]
            revisions = [
                {"serviceRevisionArn": each["revision"], "taskDefinition": each["definition"]} for each in wanted
            ]
            return {"serviceRevisions": revisions}
        described = [
            {
                "serviceDeploymentArn": each["serviceDeploymentArn"],
                "createdAt": each["createdAt"],
                "status": each["status"],
                "statusReason": each.get("reason", ""),
                "targetServiceRevision": {"arn": each["revision"]},
                "alarms": {
                    "status": "TRIGGERED" if each.get("alarms") else "MONITORING" if self.alarms else "DISABLED",
                    "alarmNames": self.alarms.get("alarmNames", []),
                    "triggeredAlarmNames": each.get("alarms", []),
                },
                "deploymentCircuitBreaker": {
                    "status": "TRIGGERED" if each["failures"] > 3 else "MONITORING",
                    "failureCount": each["failures"],
                    "threshold": 3,
                },
            }
            for each in self.history
            if each["serviceDeploymentArn"] in asked["serviceDeploymentArns"]
        ]
        return {"serviceDeployments": described}

    def _stop(self, arn: str) -> dict[str, Any]:
        self.stops.append(arn)
        found = next(each for each in self.history if each["serviceDeploymentArn"] == arn)
        mine = next((each for each in self.deployments if each["id"] == found["of"]), None)
        if mine is None or found["status"] != "IN_PROGRESS":
            raise RefusalError("ConflictException", "The service deployment is not running.")
        mine["_script"] = []
        found["status"] = "ROLLBACK_IN_PROGRESS"
        self._roll_back(mine)
        return {"serviceDeploymentArn": arn}

    def _run_task(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        token = asked["clientToken"]
        if token not in self._clients:
            end = self.task_ends.pop(0) if self.task_ends else {"exitCode": 0}
            if "failure" in end:
                return {"tasks": [], "failures": [{"reason": end["failure"]}]}
            arn = f"{_ARN}task/prod/oneoff{len(self._clients)}"
            self._clients[token] = arn
            self.tasks[arn] = {
                "taskArn": arn,
                "startedBy": asked["startedBy"],
                "lastStatus": "PENDING",
                "desiredStatus": "RUNNING",
                "containers": [{"name": "app", "lastStatus": "PENDING"}],
                "_ends": end,
                "_at": self.now,
            }
        return {"tasks": [self._task(self._clients[token])], "failures": []}

    def _stop_task(self, arn: str, reason: str) -> dict[str, Any]:
        task = self.tasks[arn]
        if task.get("desiredStatus") == "RUNNING":
            task.update(desiredStatus="STOPPED", _at=self.now - self.task_takes_s + self.task_stops_s)
            task["_ends"] = {"stopCode": "UserInitiated", "stoppedReason": reason, "exitCode": 143}
        return self._task(arn)

    def _task(self, arn: str) -> dict[str, Any]:
        task = self.tasks[arn]
        end = task.get("_ends")
        if end is not None and self.now - task["_at"] >= self.task_takes_s:
            task.update(lastStatus="STOPPED", stopCode=end.get("stopCode", "EssentialContainerExited"))
            task["stoppedReason"] = end.get("stoppedReason", "Essential container in task exited")
            task["containers"] = [
                {"name": "app", "lastStatus": "STOPPED", **{k: end[k] for k in ("exitCode", "reason") if k in end}}
            ]
            task["_ends"] = None
            self.logs.setdefault(f"web/app/{arn.rpartition('/')[2]}", list(end.get("lines", ())))
        return {key: value for key, value in task.items() if not key.startswith("_")}

    def _log_events(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        lines = self.logs.get(asked["logStreamName"])
        if lines is None:
            raise RefusalError("ResourceNotFoundException", "The specified log stream does not exist.")
        begin = int(asked.get("nextToken", 0)) if asked["startFromHead"] else max(0, len(lines) - asked["limit"])
        events = [{"message": line, "timestamp": 1} for line in lines[begin:]]
        return {"events": events, "nextForwardToken": str(len(lines)), "nextBackwardToken": "0"}

    def fault(self, operation: str) -> Fault | None:
        if self.throttles_each and operation not in self._throttled:
            self._throttled.add(operation)
            return "throttle"
        waiting = self.faults[operation]
        return waiting.pop(0) if waiting else None
