"""The task of its own before a service is updated (`before_deploy`), such as a migration: once, with its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from seamless.crashpoints import crash_point
from seamless.errors import SeamlessError, StageError, UnavailableError
from seamless.targets import DeployRequest, Journal, Log
from seamless.targets.ecs_explain import cause_of, task_lines
from seamless.targets.ecs_plan import container_of, short_name
from seamless.targets.ecs_preparing import Prepared
from seamless.targets.ecs_service import EcsService, log_stream
from seamless.targets.ecs_spec import Spec, Timing

_PAGES: Final = 20  # of a log that are read at a time
_STOPS_S: Final = 150.0  # in which a task that was told to stop has ended: Fargate kills it after 120 s at the latest
# What a service and RunTask call alike.
_SHARED: Final = ("launchType", "capacityProviderStrategy", "platformVersion", "networkConfiguration")


class BeforeDeploy:
    """Runs `sh -eu -c <script>` in the service's own container of the new task definition, sidecars beside it."""

    def __init__(
        self,
        ecs: EcsService,
        spec: Spec,
        request: DeployRequest,
        journal: Journal,
        log: Log,
        timing: Timing,
        prepared: Prepared,
        definition: str,
    ) -> None:
        self._ecs = ecs
        self._spec = spec
        self._request = request
        self._journal = journal
        self._log = log
        self._timing = timing
        self._container = prepared.container
        self._definition = definition
        self._left_s = spec.before_deploy_s or request.deadline_s
        self._token: str | None = None

    async def run(self) -> None:
        """Returns when it has exited with 0. Raises StageError otherwise, with the reason."""
        if self._journal.get("before_done"):
            return
        if (task := self._journal.get("task")) is None:
            task = await self._start()
        await self._follow(str(task))
        await self._journal.record(before_done=True)

    async def _start(self) -> str:
        """At most one task, however often the agent dies here: the token stands for this deployment."""
        await self._elapsed_s("before_clock")
        service = await self._ecs.describe()
        crash_point("deploy.ecs.task:before_effect")
        answer = await self._ecs.run_task(
            taskDefinition=self._definition,
            startedBy=f"seamless-{self._request.deployment}",
            clientToken=f"seamless-{self._definition.rpartition('/')[2][-40:]}-{self._request.deployment}"[-64:],
            overrides={
                "containerOverrides": [
                    {"name": self._container, "command": ["sh", "-eu", "-c", self._spec.before_deploy]}
                ]
            },
            **{key: service[key] for key in _SHARED if service.get(key)},
        )
        crash_point("deploy.ecs.task:after_effect")
        if not answer["tasks"]:
            failures = "; ".join(_failure(each) for each in answer.get("failures", []))
            raise StageError(f"before_deploy was not started: {failures or 'ECS does not say why'}")
        task = str(answer["tasks"][0]["taskArn"])
        await self._journal.record(task=task)
        await self._log(f"before_deploy runs as task {short_name(task)}")
        return task

    async def _follow(self, task: str) -> None:
        definition, _ = await self._ecs.definition(self._definition)
        stream = log_stream(container_of(definition, self._container), task)
        blind: SeamlessError | None = None
        while True:
            try:
                found, blind = await self._ecs.describe_tasks([task]), None
            except UnavailableError as error:
                found, blind = [], error
            await self._tell(stream)
            if found:
                own = _of_name(found[0], self._container)
                if found[0]["lastStatus"] == "STOPPED" or own.get("lastStatus") == "STOPPED":
                    await self._tell(stream)
                    return await self._judge(task, found[0], own)
            if (why := await self._why_to_stop()) is not None:
                if not (found and found[0].get("desiredStatus") == "STOPPED"):
                    await self._stop(task, why)
                if await self._elapsed_s("before_stop_clock") > _STOPS_S:
                    unread = "" if blind is None else f": {blind.message}"
                    raise StageError(f"{why}, and whether its task {short_name(task)} has ended is not known{unread}")
            await self._timing.pause(self._request.cancel)

    async def _why_to_stop(self) -> str | None:
        """Why the task is not waited for any longer; the same from the first time on."""
        if (known := self._journal.get("before_stop")) is not None:
            return str(known)
        if self._request.cancel.is_set():
            why = "before_deploy was stopped"
        elif await self._elapsed_s("before_clock") >= self._left_s:
            why = f"before_deploy timed out after {self._left_s:g} s"
        else:
            return None
        await self._journal.record(before_stop=why)
        return why

    async def _elapsed_s(self, clock: str) -> float:
        """Since it was asked for first. A clock that stopped with a boot of the host begins anew."""
        elapsed_s = self._timing.elapsed_s(self._journal.get(clock))
        if elapsed_s is None:
            await self._journal.record(**{clock: self._timing.read()})
        return elapsed_s or 0.0

    async def _stop(self, task: str, why: str) -> None:
        """Asks for it; may be repeated. Raises StageError when ECS refuses."""
        try:
            await self._ecs.stop_task(task, f"Seamless: {why}")
        except UnavailableError:  # asked again at the next look
            return
        except SeamlessError as error:
            raise StageError(f"{why}, and its task {short_name(task)} cannot be stopped: {error.reason}") from error

    async def _judge(self, task: str, found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        code = own.get("exitCode")
        if found["lastStatus"] != "STOPPED":  # its sidecars would go on for ever
            await self._ecs.stop_task(task, "its own container has ended")
        why = self._journal.get("before_stop")
        if code == 0 and why is None:
            await self._log("before_deploy: exit code 0")
            return
        for line in task_lines(found):
            await self._log(line)
        if why is not None:
            raise StageError(str(why) if code is None else f"{why}: exit code {code}")
        if code is None:
            cause = cause_of([found], [], self._container) or found.get("stoppedReason") or "it never started"
            raise StageError(f"before_deploy: {cause}")
        raise StageError(f"before_deploy: exit code {code}", exit_code=int(code))

    async def _tell(self, stream: tuple[str, str] | None) -> None:
        """The log's new lines. A restarted agent tells them from the beginning on what was not told."""
        if stream is None:
            return
        token = self._token or self._journal.get("before_log")
        for _ in range(_PAGES):
            try:
                lines, following = await self._ecs.log_page(*stream, token)
            except SeamlessError as error:
                if not self._journal.get("before_log_unread"):
                    await self._log(f"the log of before_deploy cannot be read: {error.message}")
                    await self._journal.record(before_log_unread=True)
                return
            for line in lines:
                await self._log(line.rstrip())
            if following == token or not lines:
                break
            token = following
            self._token = following
            await self._journal.record(before_log=following)


def _failure(failure: Mapping[str, Any]) -> str:
    """Of RunTask: "RESOURCE:MEMORY", with what ECS adds to it."""
    more = failure.get("detail") or failure.get("arn")
    return f"{failure.get('reason')}: {more}" if more else str(failure.get("reason"))


def _of_name(task: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    return next((each for each in task.get("containers", []) if each["name"] == container), {})
