"""One deployment to the Docker target, from its first step or from the recorded one to its verdict.

The journal holds:

- `clock`: when the deployment began; `plan`: its steps and the container to go back to
- `done`: the steps made; each leaves alone what it finds done, so dying between effect and record is harmless
- `facts`: what steps found out ("healthy_s", "gap_from", "gap_s")
- `failure`: `{"reason", "explanation"}`, from which moment on the steps go back; `back_clock`: since when
- `outcome`: the verdict, given again when `deploy` is called again
- `removed_old`: true when what was replaced is gone
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from seamless.crashpoints import crash_point
from seamless.errors import StorageError, UnavailableError
from seamless.targets import DeployOutcome, DeployRequest, Journal, Log, after, stopwatch
from seamless.targets.docker_engine import Engine, EngineRefusalError
from seamless.targets.docker_plan import (
    BACK,
    COMMITTED,
    TOLERANT,
    Check,
    Container,
    ContainerPlan,
    Plan,
    Step,
    container_name,
    container_plan,
    describe_exit,
    explain_start,
    last_lines,
    network_labels,
    network_name,
    plan,
    published,
    service_labels,
)
from seamless.targets.health import wait_until_healthy
from seamless.transitions import DeploymentEvent

STOP_GRACE_S: Final = 10
DRAIN_S: Final = 1.0  # between the old container's loss of its name and its stop signal
_LINES: Final = 20


class _FailureError(Exception):
    """The new release does not come to be. `reason` is None when somebody cancelled it."""

    def __init__(self, reason: str | None, *, evidence: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.evidence = [evidence] if evidence else []


class Rollout:
    """Carries out the plan of one request. `auth`: credentials of the image's registry, if it needs any."""

    def __init__(
        self, engine: Engine, request: DeployRequest, journal: Journal, log: Log, auth: Mapping[str, str] | None
    ) -> None:
        self._engine = engine
        self._request = request
        self._journal = journal
        self._log = log
        self._auth = auth
        self._name = container_name(engine.installation, request)
        self._trial = container_name(engine.installation, request, trial=True)
        self._network = network_name(engine.installation, request.environment)
        self._publish = published(request)
        self._labels = service_labels(engine.installation, request.service, request.environment)
        self._environment = network_labels(engine.installation, request.environment)
        self._plan = Plan((), None, None)
        self._steps: Mapping[Step, Callable[[], Awaitable[Mapping[str, Any] | None]]] = {
            Step.IMAGE: self._image,
            Step.NETWORK: self._ensure_network,
            Step.CLEAN: self._clean,
            Step.CREATE_TRIAL: lambda: self._create(trial=True),
            Step.START_TRIAL: lambda: self._start(self._trial),
            Step.VERIFY_TRIAL: lambda: self._verify(self._trial, publish=None),
            Step.REMOVE_TRIAL: lambda: self._engine.remove(self._trial, grace_s=STOP_GRACE_S),
            Step.CREATE: lambda: self._create(trial=False),
            Step.STOP_OLD: self._stop_old,
            Step.START: lambda: self._start(self._name),
            Step.VERIFY: self._verify_new,
            Step.NAME: self._take_name,
            Step.CONFIRM: self._confirm,
            Step.KEEP: lambda: self._engine.keep(self._name),
            Step.RETIRE_OLD: self._retire_old,
            Step.DISCARD: self._discard,
            Step.RESTORE_OLD: self._restore_old,
            Step.VERIFY_OLD: self._verify_old,
            Step.LEAVE: self._leave,
        }

    async def run(self) -> DeployOutcome:
        """The verdict; UNKNOWN (LOSE_SIGHT) when the engine does not answer for as long as it is patient."""
        if recorded := self._journal.get("outcome"):
            return DeployOutcome(DeploymentEvent(recorded["event"]), recorded["reason"], recorded["detail"])
        try:
            await self._begin()
            if self._journal.get("failure") is None:
                try:
                    await self._take(self._plan.forward)
                    return await self._complete()
                except (_FailureError, EngineRefusalError) as failure:
                    await self._record_failure(failure)
            return await self._back_out()
        except StorageError:
            raise
        except UnavailableError as error:
            if self._journal.get("plan") is None:
                return DeployOutcome(DeploymentEvent.FAIL, f"{error.message}; nothing was changed")
            await self._log(f"{error.message}: what is deployed cannot be read")
            return DeployOutcome(DeploymentEvent.LOSE_SIGHT, error.message)

    async def _begin(self) -> None:
        if (recorded := self._journal.get("plan")) is not None:
            self._plan = Plan.from_json(recorded)
            if stopwatch.elapsed_s(self._journal.get("clock")) is None:
                await self._journal.record(clock=stopwatch.read())  # the host was booted: begin anew
            return
        self._plan = plan(self._request, await self._engine.find(self._labels))
        await self._journal.record(clock=stopwatch.read(), plan=self._plan.to_json())

    async def _take(self, steps: Sequence[Step]) -> None:
        done: list[str] = list(self._journal.get("done") or ())
        for step in steps:
            if step in done:
                continue
            if step not in COMMITTED and step not in BACK and self._request.cancel.is_set():
                raise _FailureError(None)
            crash_point(f"deploy.docker.{step}:before_effect")
            try:
                found = await self._steps[step]()
            except EngineRefusalError as error:
                if step not in TOLERANT:
                    raise
                found = None
                await self._log(f"{step}: {error.message}")
            crash_point(f"deploy.docker.{step}:after_effect")
            done.append(step)
            facts = {**self._facts, **(found or {})}
            await self._journal.record(done=list(done), facts=facts)

    @property
    def _facts(self) -> Mapping[str, Any]:
        return self._journal.get("facts") or {}

    # Forward

    async def _image(self) -> None:
        image = self._request.image
        if await self._engine.has_image(image):
            return
        await self._log(f"pulling {image.pullable}")
        pull = asyncio.create_task(self._engine.pull(image, self._auth))
        cancelled = asyncio.create_task(self._request.cancel.wait())
        try:
            await asyncio.wait(
                {pull, cancelled}, timeout=max(self._remaining_s(), 1.0), return_when=asyncio.FIRST_COMPLETED
            )
            if pull.done():
                await pull
            elif cancelled.done():
                raise _FailureError(None)
            else:
                raise _FailureError(f"the image was not pulled within {self._request.deadline_s:g} s")
        except EngineRefusalError as error:
            raise _FailureError(f"the image {image.pullable} is not to be had: {error.message}") from error
        finally:
            pull.cancel()
            cancelled.cancel()

    async def _ensure_network(self) -> None:
        await self._engine.ensure_network(self._network, self._environment)

    async def _clean(self) -> None:
        for container in await self._engine.find(self._labels):
            if container.id != self._plan.old and container.name not in (self._name, self._trial):
                await self._log(f"removing {container.name}, left by an earlier deployment")
                await self._engine.remove(container.id, grace_s=STOP_GRACE_S)

    async def _create(self, *, trial: bool) -> None:
        def describe(subnet: str, taken: Sequence[str]) -> ContainerPlan:
            named = self._plan.alone and not trial
            return container_plan(self._engine.installation, self._request, subnet, taken, trial=trial, named=named)

        await self._engine.create(self._network, self._environment, describe)

    async def _start(self, name: str) -> None:
        try:
            await self._engine.start(name)
        except EngineRefusalError as error:
            publish = self._publish if name == self._name else None
            raise _FailureError(await self._why_not_started(error, publish)) from error
        await self._log(f"started {name}")

    async def _why_not_started(self, error: EngineRefusalError, publish: int | None) -> str:
        holders = await self._engine.publishers(publish) if publish is not None else []
        return explain_start(error.message, publish, holders)

    async def _verify_new(self) -> Mapping[str, Any]:
        found = await self._verify(self._name, publish=self._publish)
        if self._plan.has_gap and (gap_s := stopwatch.elapsed_s(self._facts.get("gap_from"))) is not None:
            return {**found, "gap_s": round(gap_s, 2)}
        return found

    async def _confirm(self) -> None:
        await self._verify(self._name, publish=self._publish)

    async def _verify(self, name: str, *, publish: int | None) -> Mapping[str, Any]:
        check = Check(self._request.health, self._request.port, publish)
        begun = time.monotonic()
        verdict = await wait_until_healthy(
            self._engine, name, check, remaining_s=self._remaining_s, cancel=self._request.cancel
        )
        if verdict.healthy:
            waited_s = time.monotonic() - begun
            await self._log(f"{name} is healthy: {verdict.said}, after {waited_s:.1f} s")
            return {"healthy_s": round(waited_s, 2)}
        if verdict.final:
            raise _FailureError(f"not healthy: {verdict.said}")
        evidence = f"{verdict.said}, asked {verdict.attempts} times"
        if verdict.cancelled:
            raise _FailureError(None, evidence=evidence)
        raise _FailureError(f"not healthy after {self._request.deadline_s:g} s: {verdict.said}", evidence=evidence)

    async def _stop_old(self) -> None:
        if self._facts.get("gap_from") is None:
            await self._journal.record(facts={**self._facts, "gap_from": stopwatch.read()})
        await self._log(f"stopping {self._plan.old_release}, which publishes port {self._publish}")
        await self._engine.stop(self._old, grace_s=STOP_GRACE_S)

    async def _take_name(self) -> None:
        container = await self._engine.inspect(self._name)
        if container is not None:
            await self._engine.alias(container, self._network, [self._request.service])

    async def _retire_old(self) -> None:
        old = await self._engine.inspect(self._old)
        if old is not None and old.running:
            await self._engine.alias(old, self._network, [])

    async def _complete(self) -> DeployOutcome:
        facts = self._facts
        reason = f"healthy after {facts['healthy_s']:.1f} s"
        detail: dict[str, Any] = {"healthy_s": facts["healthy_s"]}
        if self._plan.has_gap:
            gap_s = facts.get("gap_s")
            reason += f", gap {gap_s:.1f} s" if gap_s is not None else ", gap not known: the host was booted in it"
            detail["gap_s"] = gap_s
        if self._publish is not None:
            detail["address"] = address(self._publish)
        return await self._conclude(DeploymentEvent.COMPLETE, reason, detail)

    # Back

    async def _record_failure(self, failure: _FailureError | EngineRefusalError) -> None:
        reason: str | None
        if isinstance(failure, EngineRefusalError):
            reason, evidence = f"the engine refuses: {failure.message}", []
        else:
            reason, evidence = failure.reason, failure.evidence
        explanation = [*evidence, *await self.explain()]
        await self._log(f"{'cancelled' if reason is None else reason}: going back")
        await self._journal.record(failure={"reason": reason, "explanation": explanation}, back_clock=stopwatch.read())

    async def _back_out(self) -> DeployOutcome:
        if stopwatch.elapsed_s(self._journal.get("back_clock")) is None:
            await self._journal.record(back_clock=stopwatch.read())
        await self._take(BACK)
        failure = self._journal.get("failure")
        detail: dict[str, Any] = {"explanation": failure["explanation"]}
        if self._plan.old is None:
            reason = after(failure["reason"], "there is nothing to go back to")
            return await self._conclude(DeploymentEvent.FAIL, reason, detail)
        release = self._plan.old_release
        if not self._facts.get("old_healthy"):
            trouble = self._facts.get("old_trouble", "the engine does not say")
            reason = after(failure["reason"], f"went back to {release}, which is not healthy either: {trouble}")
            return await self._conclude(DeploymentEvent.FAIL, reason, detail)
        if (gap_s := self._facts.get("gap_s")) is not None:
            detail["gap_s"] = gap_s
        reason = after(failure["reason"], f"rolled back to {release}")
        return await self._conclude(DeploymentEvent.ROLL_BACK, reason, detail)

    async def _discard(self) -> None:
        for name in (self._trial, self._name):
            await self._engine.remove(name, grace_s=STOP_GRACE_S)

    async def _restore_old(self) -> Mapping[str, Any] | None:
        if self._plan.old is None:
            return None
        old = await self._engine.inspect(self._plan.old)
        if old is None:
            return {"old_trouble": "its container is gone"}
        try:
            await self._engine.start(old.id, again=True)
        except EngineRefusalError as error:
            return {"old_trouble": await self._why_not_started(error, Check.of(old).publish)}
        return None

    async def _verify_old(self) -> Mapping[str, Any] | None:
        if self._plan.old is None or "old_trouble" in self._facts:
            return None
        old = await self._engine.inspect(self._plan.old)
        if old is None:
            return {"old_trouble": "its container is gone"}
        verdict = await wait_until_healthy(
            self._engine, old.id, Check.of(old), remaining_s=lambda: self._remaining_s("back_clock")
        )
        if not verdict.healthy:
            return {"old_trouble": verdict.said}
        await self._log(f"{self._plan.old_release} is healthy: {verdict.said}")
        gap_s = stopwatch.elapsed_s(self._facts.get("gap_from"))
        return {"old_healthy": True} | ({"gap_s": round(gap_s, 2)} if gap_s is not None else {})

    async def _leave(self) -> None:
        await self._engine.remove_network(self._network, self._environment)

    # What both need

    async def explain(self) -> list[str]:
        """How the new container, or its trial, is or ended, and its last lines."""
        lines: list[str] = []
        for name in (self._trial, self._name):
            container = await self._engine.inspect(name)
            if container is not None and container.started_at is not None:
                output = await self._engine.output(name, _LINES)
                lines.append(f"{name}: {_state(container)}")
                lines += [f"  {line}" for line in last_lines(output, self._request.secret_env.values())]
        return lines

    async def _conclude(self, event: DeploymentEvent, reason: str, detail: Mapping[str, Any]) -> DeployOutcome:
        await self._log(reason)
        await self._journal.record(outcome={"event": event, "reason": reason, "detail": detail})
        return DeployOutcome(event, reason, detail)

    def _remaining_s(self, clock: str = "clock") -> float:
        return self._request.deadline_s - (stopwatch.elapsed_s(self._journal.get(clock)) or 0.0)

    @property
    def _old(self) -> str:
        if self._plan.old is None:
            raise ValueError("a step of this plan needs an old container, and it names none")
        return self._plan.old


async def remove_old(engine: Engine, journal: Journal) -> None:
    """After the verdict of a deployment that completed: removes what it replaced, when the requests that were under
    way have had a moment. Idempotent. Raises EngineRefusalError and UnavailableError."""
    recorded = journal.get("plan")
    if recorded is None or journal.get("removed_old") or (made := Plan.from_json(recorded)).old is None:
        return
    crash_point("deploy.docker.remove_old:before_effect")
    old = await engine.inspect(made.old)
    if old is not None and old.running:
        await asyncio.sleep(DRAIN_S)
    await engine.remove(made.old, grace_s=STOP_GRACE_S)
    crash_point("deploy.docker.remove_old:after_effect")
    await journal.record(removed_old=True)


def address(publish: int) -> str:
    """How a person on this host reaches a published port."""
    return f"http://127.0.0.1:{publish}"


def _state(container: Container) -> str:
    if container.ended:
        return describe_exit(container)
    return container.status if container.health is None else f"{container.status}, {container.health}"
