"""Carries out one attempt of one stage: its log, its secrets, its deadline, and the verdict."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from seamless.agent.ahead import Ahead
from seamless.agent.building import perform_build
from seamless.agent.deploying import Deployer
from seamless.agent.integrating import Integrator
from seamless.agent.logs import LogId, Patterns
from seamless.agent.logs.spool import Spool
from seamless.agent.resources import Resources
from seamless.agent.verdicts import StopSwitch, Verdict
from seamless.clock import spent_s
from seamless.config import Parameters, format_duration
from seamless.errors import (
    EngineUnavailableError,
    HostError,
    InterruptedStageError,
    SeamlessError,
    StageError,
    StorageError,
)
from seamless.model import STAGE_ENVIRONMENT, Run, Stage, StageName, Trust
from seamless.secretrefs import resolve_all
from seamless.stages import CHECKS, StageContext, StageResult, checks, prepare, skip_reason
from seamless.transitions import StageEvent, StageState, after_failure, after_interruption

_GRACE_S: Final = 10.0  # between asking a container to end and killing it
_ENGINE_AGAIN_S: Final = 1.0
_ROOM_AGAIN_S: Final = 2.0
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_log = logging.getLogger(__name__)


class StageJournal:
    """Implements `stages.Journal` for one attempt."""

    def __init__(self, resources: Resources, stage: Stage) -> None:
        self._store = resources.store
        self._stage = stage
        self._entries = dict(stage.journal)

    def get(self, key: str) -> Any:
        return self._entries.get(key)

    async def record(self, **entries: Any) -> None:
        await self._store.runs.record_journal(self._stage.run, self._stage.name, self._stage.attempt, entries)
        self._entries.update(entries)


class StageRunner:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._deployer = Deployer(resources)
        self._integrator = Integrator(resources)
        self._ahead = Ahead()

    async def execute(self, run: Run, stage: Stage, switch: StopSwitch, *, resumed: bool) -> Verdict:
        """Runs the attempt to its verdict. Cancelled without a reason on the switch, it leaves all as it is."""
        resources = self._resources
        parameters = Parameters.model_validate(run.parameters)
        spool = resources.spool(run.id, stage.name, stage.attempt)
        try:
            secrets = await asyncio.to_thread(self._secrets_of, run, stage, parameters)
            hidden = await asyncio.to_thread(self._hidden, parameters, secrets)
        except StorageError:
            raise
        except SeamlessError as error:
            return await self._refused(run, stage, parameters, error)
        log = LogId(run.id, stage.name)
        patterns = Patterns(hidden)
        await self._ahead.settle(run.id, stage.name)
        async with resources.logs.record(log, stage.attempt, spool, hidden) as recording:
            context = self._context(run, stage, parameters, secrets, patterns, recording.line, resumed=resumed)
            try:
                verdict = await self._to_verdict(context, switch)
            except StageError as error:
                verdict = self._failed(run, stage, parameters, error)
            if stage.name is StageName.PREPARE and verdict.event in (StageEvent.RETRY, StageEvent.INTERRUPT):
                await self._discard_ahead(run, parameters)
            if verdict.reason is not None:
                await recording.line(f"{stage.name}: {verdict.reason}")
        return _redacted(verdict, patterns)

    def _context(
        self,
        run: Run,
        stage: Stage,
        parameters: Parameters,
        secrets: Mapping[str, str],
        patterns: Patterns,
        line: Callable[[str], Awaitable[None]],
        *,
        resumed: bool = False,
    ) -> StageContext:
        resources = self._resources
        return StageContext(
            run=run,
            stage=stage,
            parameters=parameters,
            resumed=resumed,
            spool=resources.spool(run.id, stage.name, stage.attempt),
            journal=StageJournal(resources, stage),
            line=line,
            workspace_ready=lambda: self._make_ahead(run, parameters),
            installation=resources.installation,
            executor=resources.executor,
            workspaces=resources.workspaces,
            secrets=secrets,
            redact=patterns.redact_json,
            ca_bundle=resources.config().agent.ca_bundle,
            work=resources.work(run.id),
            artifacts=resources.artifacts(run.id, stage.name),
        )

    def _make_ahead(self, run: Run, parameters: Parameters) -> None:
        """While `install` runs: the containers of the checks, and what Compose makes of the integration test's file."""
        for stage in run.stages:
            if stage.name in CHECKS and stage.state is StageState.IDLE and not skip_reason(stage.name, parameters):
                coming = dataclasses.replace(stage, attempt=stage.attempt + 1)
                self._ahead.begin(run.id, stage.name, self._create_ahead(run, coming, parameters))

            if stage.name is StageName.INTEGRATION_TEST and stage.state is StageState.IDLE:
                coming = dataclasses.replace(stage, attempt=stage.attempt + 1)
                context = self._context(run, coming, parameters, {}, Patterns(()), _say_nothing)
                self._ahead.begin(run.id, stage.name, self._integrator.resolve_ahead(context))

    async def _create_ahead(self, run: Run, stage: Stage, parameters: Parameters) -> None:
        if not await self._resources.executor.views_are_live():
            return
        secrets = await asyncio.to_thread(self._secrets_of, run, stage, parameters)
        context = self._context(run, stage, parameters, secrets, Patterns(()), _say_nothing)
        Spool(context.spool).close()
        await checks.make_ahead(context)

    async def _discard_ahead(self, run: Run, parameters: Parameters) -> None:
        """prepare is done again: what was made over this attempt's workspace is not what the checks must see."""
        await self._ahead.settle(run.id, StageName.INTEGRATION_TEST)
        self._integrator.forget(run.id)
        for stage in run.stages:
            if stage.name in CHECKS and stage.state is StageState.IDLE:
                await self._ahead.settle(run.id, stage.name)
                coming = dataclasses.replace(stage, attempt=stage.attempt + 1)
                context = self._context(run, coming, parameters, {}, Patterns(()), _say_nothing)
                await self._resources.executor.remove(context.container_name)

    async def settle(self, run: str) -> None:
        """Returns when nothing is being made for a run any more."""
        await self._ahead.settle(run)
        self._integrator.forget(run)

    async def _refused(self, run: Run, stage: Stage, parameters: Parameters, error: SeamlessError) -> Verdict:
        """The verdict of an attempt whose secrets cannot be had."""
        verdict = self._failed(run, stage, parameters, StageError(error.message, hint=error.hint))
        environment = STAGE_ENVIRONMENT.get(stage.name)
        if environment is None:
            return verdict
        return await self._deployer.give_up(run, environment, verdict)

    async def _to_verdict(self, context: StageContext, switch: StopSwitch) -> Verdict:
        environment = STAGE_ENVIRONMENT.get(context.stage.name)
        if environment is not None:
            return await self._deployer.deploy(context, environment, switch)
        work = asyncio.ensure_future(self._perform(context))
        asked = asyncio.ensure_future(switch.asked.wait())
        left_s, timed_out = _deadline(context)
        try:
            await asyncio.wait(
                {work, asked},
                timeout=left_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                result = work.result()
                return Verdict(StageEvent.SUCCEED, detail=result.detail, also=result.also)
            await _end(work)
            await self._resources.executor.stop(context.container_name, grace_s=_GRACE_S)
            if switch.reason is not None:
                return Verdict(StageEvent.CANCEL, reason=switch.reason)
            raise StageError(timed_out)
        finally:
            asked.cancel()
            await _end(work)

    async def _perform(self, context: StageContext) -> StageResult:
        """The stage's work. Waits for the engine, and for room on the disk, as long as the stage's time lasts."""
        if context.stage.interruptions:
            await self._until_engine_answers(context, "")
        told = ""
        while True:
            try:
                return await self._attempt(context)
            except EngineUnavailableError as error:
                await self._until_engine_answers(context, error.message)
            except StorageError as error:
                if error.message != told:
                    await context.line(f"waiting for room: {error.message}")
                told = error.message
                await asyncio.sleep(_ROOM_AGAIN_S)
            context = dataclasses.replace(context, resumed=True)

    async def _until_engine_answers(self, context: StageContext, why: str) -> None:
        executor = self._resources.executor
        if why or not await executor.answers():
            await context.line(f"waiting for the Docker Engine{why and ': '}{why}")
            await asyncio.sleep(_ENGINE_AGAIN_S)  # also when it answers now: who fails at once must not be busy
            while not await executor.answers():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_ENGINE_AGAIN_S)
            await context.line("the Docker Engine answers again")

    async def _attempt(self, context: StageContext) -> StageResult:
        try:
            match context.stage.name:
                case StageName.PREPARE:
                    return await prepare.perform(context)
                case StageName.CODE_QUALITY | StageName.UNIT_TEST:
                    return await checks.perform(context)
                case StageName.BUILD:
                    return await perform_build(context, self._resources)
                case _:
                    return await self._integrator.perform(context)
        except (StageError, HostError):
            raise
        except SeamlessError as error:
            raise StageError(error.message, hint=error.hint) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise StorageError(
                    f"{error.filename or self._resources.data_dir}: {(error.strerror or str(error)).lower()}"
                ) from error
            _log.exception("%s of %s met an error of our own", context.stage.name, context.run.id)
            raise StageError(
                f"an error in Seamless itself: {type(error).__name__}: {error}",
                hint="the agent's log has the details; please report it",
            ) from error

    def _failed(self, run: Run, stage: Stage, parameters: Parameters, error: StageError) -> Verdict:
        """The pure functions beside the table decide whether there is another attempt."""
        reason = error.reason
        if (short := self._resources.room.shortage()) is not None:
            reason = f"{reason}; {short}"
        if isinstance(error, InterruptedStageError):
            event = after_interruption(stage.interruptions + 1, parameters.max_interruptions)
            if event is StageEvent.GIVE_UP:
                reason = f"interrupted {stage.interruptions + 1} times: {reason}"
        elif stage.name in STAGE_ENVIRONMENT:
            event = StageEvent.FAIL  # a deployment is not tried again by itself
        else:
            event = after_failure(stage.attempt - stage.interruptions, parameters.max_attempts)
        return Verdict(event, reason, error.stage_exit_code, error.detail)

    def _secrets_of(self, run: Run, stage: Stage, parameters: Parameters) -> dict[str, str]:
        """The secrets that this stage of a run of this trust may see, by name. Raises as `resolve_all`."""
        if run.trust is Trust.UNTRUSTED:
            return {}
        environment = STAGE_ENVIRONMENT.get(stage.name)
        if environment is not None and self._resources.config().environments[environment].target == "ecs":
            return {}  # tasks of ECS are given references, and read their secrets themselves
        if environment is not None:
            declared = parameters.for_environment(environment).secrets
        elif stage.name is StageName.BUILD:
            declared = parameters.build.secrets
        else:
            declared = parameters.secrets
        trusted = run.trust is Trust.TRUSTED
        return resolve_all({name: secret for name, secret in declared.items() if trusted or "pr" in secret.expose})

    def _hidden(self, parameters: Parameters, secrets: Mapping[str, str]) -> list[str]:
        """Every value that must not appear in the log, whether the stage gets it or only the agent uses it."""
        config = self._resources.config()
        references = [parameters.git.token, *(registry.password for registry in config.registries.values())]
        used = resolve_all({str(number): ref for number, ref in enumerate(references) if ref is not None})
        return sorted({*secrets.values(), *used.values()})


def _redacted(verdict: Verdict, patterns: Patterns) -> Verdict:
    """Reasons and evidence quote what programs and tests said: they are shown, so they are redacted like a log."""
    return dataclasses.replace(
        verdict, reason=patterns.redact_json(verdict.reason), detail=patterns.redact_json(verdict.detail)
    )


def _deadline(context: StageContext) -> tuple[float, str]:
    """Seconds that are left for the attempt, and what to say when they are over."""
    parameters = context.parameters
    stage_s = parameters.stage_timeout - spent_s(context.stage.clock)
    run_s = parameters.run_timeout - spent_s(context.run.clock)
    if run_s < stage_s:
        return max(0.0, run_s), f"the run timed out after {format_duration(parameters.run_timeout)}"
    return max(0.0, stage_s), f"timed out after {format_duration(parameters.stage_timeout)}"


async def _say_nothing(_: str) -> None:
    """An attempt that has not started has no log."""


async def _end(work: asyncio.Future[Any]) -> None:
    """Cancels, and waits for the end of it: a program's process group is dead then."""
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
