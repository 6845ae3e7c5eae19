"""What a run consists of, and what it does next, whatever its stages come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless.agent.gate import Gate, Order, refusal, why_wait
from seamless.agent.planning import (
    CHECKS,
    AwaitApproval,
    CancelIdle,
    Finish,
    Skip,
    Start,
    Step,
    Stop,
    downstream_of,
    next_steps,
    stages_of,
    trust_of,
)
from seamless.model import (
    NEEDS,
    Approval,
    CancelRequest,
    Environment,
    Run,
    RunOptions,
    Stage,
    StageName,
    Trigger,
    Trust,
)
from seamless.transitions import (
    RUN_ENDED,
    STAGE_ENDED,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    next_run_state,
    next_stage_state,
)

S = StageName
TO_INTEGRATION = (S.PREPARE, S.CODE_QUALITY, S.UNIT_TEST, S.BUILD, S.INTEGRATION_TEST)
ALL = (*TO_INTEGRATION, S.DEPLOY_STAGING, S.DEPLOY_PRODUCTION)
NO_STAGING = (*TO_INTEGRATION, S.DEPLOY_PRODUCTION)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_run(stages: Sequence[StageName], trigger: Trigger = Trigger.MAIN, **changes: object) -> Run:
    """A run that is stored and has not started."""
    run = Run(
        id="web-1",
        service="web",
        number=1,
        trigger=trigger,
        trust=Trust.TRUSTED,
        ref="refs/heads/main",
        commit="a" * 40,
        base=None,
        subject="a change",
        author="Ada",
        state=RunState.IDLE,
        reason=None,
        requested_by="ada",
        created_at=NOW,
        started_at=None,
        ended_at=None,
        parameters={},
        options=RunOptions(),
        rerun_of=None,
        stages=tuple(Stage("web-1", name, StageState.IDLE, 0, 0, None, None, None, None) for name in stages),
    )
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trigger", "options", "use_staging", "expected"),
    [
        (Trigger.MAIN, RunOptions(on_branch=True), True, ALL),
        (Trigger.MAIN, RunOptions(on_branch=True), False, NO_STAGING),
        (Trigger.MANUAL, RunOptions(on_branch=True), True, ALL),
        (Trigger.MANUAL, RunOptions(on_branch=True, checks=True), True, CHECKS),
        (Trigger.MANUAL, RunOptions(), True, TO_INTEGRATION),
        (Trigger.MANUAL, RunOptions(staging=True), True, (*TO_INTEGRATION, S.DEPLOY_STAGING)),
        (Trigger.MANUAL, RunOptions(staging=True), False, TO_INTEGRATION),
        (Trigger.MANUAL, RunOptions(local=True), True, CHECKS),
        (Trigger.MANUAL, RunOptions(checks=True), True, CHECKS),
        (Trigger.MANUAL, RunOptions(fork=True, staging=True), True, CHECKS),
        (Trigger.PR_OPEN, RunOptions(), True, CHECKS),
        (Trigger.PR_SYNC, RunOptions(), True, CHECKS),
        (Trigger.ROLLBACK, RunOptions(environment=Environment.PRODUCTION), True, (S.DEPLOY_PRODUCTION,)),
        (Trigger.ROLLBACK, RunOptions(environment=Environment.STAGING), True, (S.DEPLOY_STAGING,)),
        (Trigger.PROMOTE, RunOptions(environment=Environment.PRODUCTION), True, (S.DEPLOY_PRODUCTION,)),
    ],
)
def test_stages_of_each_trigger(
    trigger: Trigger, options: RunOptions, use_staging: bool, expected: tuple[StageName, ...]
) -> None:
    assert stages_of(trigger, options, use_staging=use_staging) == expected


def test_a_parameter_adds_stages_to_pull_requests_but_never_to_forks() -> None:
    more = [S.BUILD, S.INTEGRATION_TEST]
    assert stages_of(Trigger.PR_OPEN, RunOptions(), use_staging=True, pull_request_stages=more) == TO_INTEGRATION
    fork = RunOptions(fork=True)
    assert stages_of(Trigger.PR_SYNC, fork, use_staging=True, pull_request_stages=more) == CHECKS


@given(
    trigger=st.sampled_from(Trigger),
    options=st.builds(
        RunOptions,
        checks=st.booleans(),
        staging=st.booleans(),
        local=st.booleans(),
        fork=st.booleans(),
        on_branch=st.booleans(),
        environment=st.sampled_from(Environment),
    ),
    use_staging=st.booleans(),
)
def test_only_trusted_code_can_reach_production(trigger: Trigger, options: RunOptions, use_staging: bool) -> None:
    options = dataclasses.replace(
        options,
        local=options.local and trigger is Trigger.MANUAL,
        fork=options.fork and trigger in (Trigger.PR_OPEN, Trigger.PR_SYNC, Trigger.MANUAL),
    )
    stages = stages_of(trigger, options, use_staging=use_staging, pull_request_stages=[S.BUILD, S.INTEGRATION_TEST])
    if S.DEPLOY_PRODUCTION in stages:
        assert trust_of(trigger, options) is Trust.TRUSTED
    assert list(stages) == sorted(stages, key=list(StageName).index)
    assert len(set(stages)) == len(stages) > 0


@pytest.mark.parametrize(
    ("trigger", "options", "trust"),
    [
        (Trigger.MAIN, RunOptions(on_branch=True), Trust.TRUSTED),
        (Trigger.MANUAL, RunOptions(on_branch=True), Trust.TRUSTED),
        (Trigger.MANUAL, RunOptions(), Trust.REPOSITORY),
        (Trigger.MANUAL, RunOptions(on_branch=True, local=True), Trust.UNTRUSTED),
        (Trigger.PR_OPEN, RunOptions(), Trust.REPOSITORY),
        (Trigger.PR_OPEN, RunOptions(fork=True), Trust.UNTRUSTED),
        (Trigger.ROLLBACK, RunOptions(), Trust.TRUSTED),
        (Trigger.PROMOTE, RunOptions(), Trust.TRUSTED),
    ],
)
def test_trust_follows_the_source(trigger: Trigger, options: RunOptions, trust: Trust) -> None:
    assert trust_of(trigger, options) is trust


def test_downstream_is_the_graph() -> None:
    assert downstream_of(S.PREPARE) == set(StageName)
    assert downstream_of(S.UNIT_TEST) == {S.UNIT_TEST, S.INTEGRATION_TEST, S.DEPLOY_STAGING, S.DEPLOY_PRODUCTION}
    assert downstream_of(S.BUILD) == {S.BUILD, S.INTEGRATION_TEST, S.DEPLOY_STAGING, S.DEPLOY_PRODUCTION}
    assert downstream_of(S.DEPLOY_PRODUCTION) == {S.DEPLOY_PRODUCTION}


APPROVED = Approval("auto_deploy is off", NOW, None, by="ada")


@pytest.mark.parametrize("trigger", [Trigger.ROLLBACK, Trigger.PROMOTE])
def test_rollback_and_promotion_are_somebodys_word_already(trigger: Trigger) -> None:
    gate = Gate(Order.FORWARD, None, None, None, held="rolled back")
    assert why_wait(a_run([S.DEPLOY_PRODUCTION], trigger), gate, auto_deploy=False) is None


@given(auto_deploy=st.booleans(), held=st.booleans(), rewritten=st.booleans(), approved=st.booleans())
def test_approval_is_asked_for_exactly_when_it_is_needed(
    auto_deploy: bool, held: bool, rewritten: bool, approved: bool
) -> None:
    run = a_run(ALL, approval=APPROVED if approved else None)
    order = Order.REWRITTEN if rewritten else Order.FORWARD
    gate = Gate(order, "b" * 40, "sha256:b", "web-0", held="rolled back" if held else None)
    needed = not approved and (held or rewritten or not auto_deploy)
    assert (why_wait(run, gate, auto_deploy=auto_deploy) is not None) is needed


def test_only_an_older_commit_is_refused_for_good() -> None:
    run = a_run(ALL)
    assert refusal(run, Gate(Order.FORWARD, "b" * 40, "d", "web-0", None)) is None
    assert refusal(run, Gate(Order.REWRITTEN, "b" * 40, "d", "web-0", None)) is None
    told = refusal(run, Gate(Order.OLDER, "b" * 40, "d", "web-7", None))
    assert told is not None
    assert "bbbbbbb" in told
    assert "web-7" in told


class Simulation:
    """Carries out what `next_steps` says with outcomes drawn at random, through the real transition table."""

    def __init__(self, run: Run, data: st.DataObject, *, auto_deploy: bool) -> None:
        self.run = run
        self._data = data
        self._auto_deploy = auto_deploy
        self.started: list[StageName] = []
        self.stopping: set[StageName] = set()
        self.asked = 0

    def state(self, name: StageName) -> StageState:
        stage = self.run.stage(name)
        assert stage is not None
        return stage.state

    def set_stage(self, name: StageName, event: StageEvent, reason: str | None = None) -> None:
        stages = tuple(
            dataclasses.replace(stage, state=next_stage_state(stage.state, event), reason=reason)
            if stage.name is name
            else stage
            for stage in self.run.stages
        )
        self.run = dataclasses.replace(self.run, stages=stages)

    def take(self, step: Step) -> None:
        match step:
            case Start(name):
                needs = [need for need in NEEDS[name] if self.run.stage(need) is not None]
                failed = [stage.name for stage in self.run.stages if stage.state is StageState.FAILURE]
                assert all(self.state(need) in (StageState.SUCCESS, StageState.SKIPPED) for need in needs)
                assert not failed or name in CHECKS, f"{name} started although {failed} failed"
                assert self.run.cancel is None
                if self.run.state is RunState.IDLE:
                    self.set_run(RunEvent.START)
                assert self.run.state is RunState.IN_PROGRESS
                if self._data.draw(st.integers(0, 9)) == 0 and name is not S.PREPARE:
                    self.set_stage(name, StageEvent.SKIP, "no command is set")
                else:
                    self.set_stage(name, StageEvent.START)
                    self.started.append(name)
            case Skip(name, reason):
                assert "failed" in reason
                self.set_stage(name, StageEvent.SKIP, reason)
            case CancelIdle(name, reason):
                self.set_stage(name, StageEvent.CANCEL, reason)
            case Stop(name, _):
                assert self.state(name) is StageState.IN_PROGRESS
                assert name is S.BUILD or self.run.cancel is not None, "checks run to their end"
                self.stopping.add(name)
            case AwaitApproval():
                self.asked += 1
                self.set_run(RunEvent.AWAIT_APPROVAL)
            case Finish(event, _):
                assert all(stage.state in STAGE_ENDED for stage in self.run.stages)
                self.set_run(event)

    def set_run(self, event: RunEvent) -> None:
        self.run = dataclasses.replace(self.run, state=next_run_state(self.run.state, event))

    def progress(self) -> None:
        """Something happens outside: a stage ends, someone approves, someone cancels."""
        running = [stage.name for stage in self.run.stages if stage.state is StageState.IN_PROGRESS]
        if self.run.cancel is None and self._data.draw(st.integers(0, 14)) == 0:
            cancel = CancelRequest(
                self._data.draw(st.sampled_from([RunEvent.CANCEL, RunEvent.SUPERSEDE])), "why", "ada"
            )
            self.run = dataclasses.replace(self.run, cancel=cancel)
        elif self.run.state is RunState.AWAITING_APPROVAL:
            self.set_run(RunEvent.APPROVE)
            self.run = dataclasses.replace(self.run, approval=APPROVED)
        else:
            assert running, f"nothing runs and nothing is to be done: {self.run}"
            name = self._data.draw(st.sampled_from(running))
            if name in self.stopping:
                self.set_stage(name, StageEvent.CANCEL, "stopped")
                return
            events = [StageEvent.SUCCEED] * 6 + [StageEvent.FAIL, StageEvent.RETRY, StageEvent.INTERRUPT]
            self.set_stage(name, self._data.draw(st.sampled_from(events)), "exit code 1")

    def approval_needed(self) -> bool:
        gate = Gate(Order.FORWARD, None, None, None, None)
        return why_wait(self.run, gate, auto_deploy=self._auto_deploy) is not None


@settings(max_examples=300)
@given(
    data=st.data(),
    stages=st.sampled_from(
        [ALL, CHECKS, TO_INTEGRATION, (*TO_INTEGRATION, S.DEPLOY_PRODUCTION), (S.DEPLOY_PRODUCTION,)]
    ),
    auto_deploy=st.booleans(),
)
def test_every_run_ends_and_keeps_the_rules(
    data: st.DataObject, stages: tuple[StageName, ...], auto_deploy: bool
) -> None:
    world = Simulation(a_run(stages), data, auto_deploy=auto_deploy)
    for _ in range(400):
        if world.run.state in RUN_ENDED:
            break
        steps = next_steps(world.run, approval_needed=world.approval_needed())
        fresh = [step for step in steps if not (isinstance(step, Stop) and step.stage in world.stopping)]
        for step in fresh:
            world.take(step)
        if not fresh:
            world.progress()
    check_end(world, stages, auto_deploy=auto_deploy)


def check_end(world: Simulation, stages: Sequence[StageName], *, auto_deploy: bool) -> None:
    run = world.run
    assert run.state in RUN_ENDED
    failed = [stage.name for stage in run.stages if stage.state is StageState.FAILURE]
    if run.cancel is not None:
        assert run.state is RunState.CANCELLED
        return
    assert (run.state is RunState.FAILURE) is bool(failed)
    if failed and S.PREPARE not in failed:
        ended = [world.state(check) for check in CHECKS if check in stages]
        assert StageState.CANCELLED not in ended, "both checks run to their end"
    if S.DEPLOY_PRODUCTION in world.started:
        assert world.asked == int(not auto_deploy)


def test_the_first_failure_stops_build_and_skips_what_follows() -> None:
    run = a_run(ALL, state=RunState.IN_PROGRESS)
    states = {
        S.PREPARE: StageState.SUCCESS,
        S.CODE_QUALITY: StageState.FAILURE,
        S.UNIT_TEST: StageState.IN_PROGRESS,
        S.BUILD: StageState.IN_PROGRESS,
    }
    stages = tuple(dataclasses.replace(stage, state=states.get(stage.name, stage.state)) for stage in run.stages)
    steps = next_steps(dataclasses.replace(run, stages=stages), approval_needed=True)
    cause = "code_quality failed"
    assert steps == [
        Stop(S.BUILD, cause),
        Skip(S.INTEGRATION_TEST, cause),
        Skip(S.DEPLOY_STAGING, cause),
        Skip(S.DEPLOY_PRODUCTION, cause),
    ]


def test_a_failed_prepare_starts_no_check() -> None:
    run = a_run(ALL, state=RunState.IN_PROGRESS)
    failed = dataclasses.replace(run.stages[0], state=StageState.FAILURE, reason="merge conflict in a.txt")
    steps = next_steps(dataclasses.replace(run, stages=(failed, *run.stages[1:])), approval_needed=False)
    assert [type(step) for step in steps] == [Skip] * 6 + [Finish]
    assert steps[-1] == Finish(RunEvent.FAIL, "prepare: merge conflict in a.txt")


def test_the_reason_of_a_failed_run_names_every_failure() -> None:
    run = a_run(CHECKS, state=RunState.IN_PROGRESS)
    done = dataclasses.replace(run.stages[0], state=StageState.SUCCESS)
    checks = tuple(dataclasses.replace(one, state=StageState.FAILURE, reason="exit code 1") for one in run.stages[1:])
    (finish,) = next_steps(dataclasses.replace(run, stages=(done, *checks)), approval_needed=False)
    assert finish == Finish(RunEvent.FAIL, "code_quality: exit code 1; unit_test: exit code 1")


def test_a_gated_run_starts_nothing_before_somebodys_word() -> None:
    asked = Approval("a fork's", expires_at=NOW, production=None)
    gated = a_run(CHECKS, Trigger.PR_OPEN, options=RunOptions(fork=True, gated=True))
    assert next_steps(gated, approval_needed=False) == [AwaitApproval()]
    waiting = dataclasses.replace(gated, state=RunState.AWAITING_APPROVAL, approval=asked)
    assert next_steps(waiting, approval_needed=False) == []
    given = dataclasses.replace(asked, by="ada")
    for state in (RunState.IDLE, RunState.IN_PROGRESS):  # by an earlier run, or in this one
        passed = dataclasses.replace(gated, state=state, approval=given)
        assert next_steps(passed, approval_needed=False) == [Start(S.PREPARE)]
    cancelled = dataclasses.replace(waiting, cancel=CancelRequest(RunEvent.SUPERSEDE, "newer", "webhook"))
    steps = next_steps(cancelled, approval_needed=False)
    assert steps[-1] == Finish(RunEvent.SUPERSEDE, "newer")
    assert not any(isinstance(step, Start) for step in steps)
