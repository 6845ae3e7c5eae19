"""Who ended a container: the decision, without an engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.executors import ContainerExit
from seamless.executors.inspection import ContainerState, ended_by_engine, joined_namespace, parse_time, verdict

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STAGE = ContainerState(
    id="s",
    image="sha256:0",
    labels={},
    status="exited",
    exit_code=143,
    out_of_memory=False,
    error=None,
    finished_at=NOON,
    namespace="n",
)
STOPPED_TOO = replace(STAGE, id="n", exit_code=137, namespace=None)
RUNS_ON = replace(STOPPED_TOO, status="running", finished_at=None)


@pytest.mark.parametrize(
    ("after_s", "exit_code", "expected"),
    [
        (0, 143, True),  # TERM to both at once
        (9.9, 137, True),  # killed after the grace
        (0.2, 0, True),  # a trap that says 0 while it is stopped has proved nothing
        (3600, 0, True),  # went on without a network
        (-1, 143, True),
        (-2.1, 143, False),  # ended by itself, before the engine was stopped
        (-600, 1, False),
        (-600, 0, False),
    ],
)
def test_a_stage_that_ended_with_its_companion_was_ended_by_the_engine(
    after_s: float, exit_code: int, expected: bool
) -> None:
    stage = replace(STAGE, exit_code=exit_code, finished_at=NOON + timedelta(seconds=after_s))
    assert ended_by_engine(stage, STOPPED_TOO) is expected


@given(st.integers(0, 255))
def test_while_the_companion_runs_every_exit_code_is_the_stages_own(exit_code: int) -> None:
    assert not ended_by_engine(replace(STAGE, exit_code=exit_code), RUNS_ON)


def test_after_a_reboot_the_engine_knows_no_times() -> None:
    lost = replace(STAGE, exit_code=255, finished_at=None)
    assert ended_by_engine(lost, replace(STOPPED_TOO, finished_at=None))


@pytest.mark.parametrize(
    ("exit_code", "expected"), [(143, True), (137, True), (255, True), (0, False), (1, False), (2, False)]
)
def test_when_the_companion_is_gone_the_exit_code_decides(exit_code: int, expected: bool) -> None:
    assert ended_by_engine(replace(STAGE, exit_code=exit_code), None) is expected
    assert not ended_by_engine(replace(STAGE, exit_code=exit_code, out_of_memory=True), None)


def test_out_of_memory_is_a_reason_only_for_a_failure_of_its_own() -> None:
    killed = replace(STAGE, exit_code=137, out_of_memory=True)
    assert verdict(killed, RUNS_ON) == ContainerExit(137, out_of_memory=True)
    assert verdict(replace(killed, exit_code=0), RUNS_ON) == ContainerExit(0)
    assert verdict(killed, STOPPED_TOO) == ContainerExit(137, by_engine=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T12:00:00Z", NOON),
        ("2026-11-23T12:00:00.123456789Z", NOON + timedelta(microseconds=123456)),
        ("2026-11-23T12:00:00.5Z", NOON + timedelta(microseconds=500000)),
        ("2026-11-23T13:00:00+01:00", NOON),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
    ],
)
def test_the_engines_times_are_read(text: str, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_a_joined_namespace_is_seen_in_the_network_mode() -> None:
    assert joined_namespace("container:abc") == "abc"
    assert joined_namespace("bridge") is joined_namespace("none") is joined_namespace("") is None
