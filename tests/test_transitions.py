"""The transition table: every pair that is in it, every pair that is not, and what may follow what."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.transitions import (
    DEPLOYMENT_LOCKS,
    DEPLOYMENT_TRANSITIONS,
    RUN_ENDED,
    RUN_TRANSITIONS,
    STAGE_ENDED,
    STAGE_TRANSITIONS,
    DeploymentEvent,
    DeploymentState,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    UnknownTransitionError,
    after_failure,
    after_interruption,
    next_deployment_state,
    next_run_state,
    next_stage_state,
)

# DESIGN's tables, as they are written there: from | event | to.
RUNS = """
idle | start | in_progress
idle, in_progress | await_approval | awaiting_approval
idle, in_progress, awaiting_approval | cancel, supersede | cancelled
in_progress | succeed | success
in_progress | fail | failure
awaiting_approval | approve | in_progress
awaiting_approval | reject, expire, void | cancelled
"""
STAGES = """
idle | start | in_progress
idle | skip | skipped
idle | cancel | cancelled
idle | reuse | success
in_progress | succeed | success
in_progress | fail, give_up | failure
in_progress | cancel | cancelled
in_progress | retry, interrupt | idle
"""
DEPLOYMENTS = """
recorded | submit | in_progress
recorded | abandon | failure
in_progress, unknown | complete | success
in_progress, unknown | fail | failure
in_progress, unknown | roll_back | rolled_back
in_progress, unknown | supersede | superseded
in_progress | lose_sight | unknown
"""

Next = Callable[[Any, Any], StrEnum]
KINDS: list[tuple[str, type[StrEnum], type[StrEnum], Next, dict[Any, Any], str]] = [
    ("run", RunState, RunEvent, next_run_state, RUN_TRANSITIONS, RUNS),
    ("stage", StageState, StageEvent, next_stage_state, STAGE_TRANSITIONS, STAGES),
    ("deployment", DeploymentState, DeploymentEvent, next_deployment_state, DEPLOYMENT_TRANSITIONS, DEPLOYMENTS),
]
PAIRS = [
    pytest.param(kind, state, event, follow, table, id=f"{kind}-{state}-{event}")
    for kind, states, events, follow, table, _ in KINDS
    for state, event in itertools.product(states, events)
]


@pytest.mark.parametrize(("kind", "state", "event", "follow", "table"), PAIRS)
def test_a_pair_is_in_the_table_or_an_error_that_names_both(
    kind: str, state: StrEnum, event: StrEnum, follow: Next, table: dict[Any, Any]
) -> None:
    if (state, event) in table:
        assert follow(state, event) is table[state, event]
        return
    with pytest.raises(UnknownTransitionError) as refused:
        follow(state, event)
    assert all(word in refused.value.message for word in (kind, state, event))


@pytest.mark.parametrize(
    ("states", "events", "table", "text"), [(kind[1], kind[2], kind[4], kind[5]) for kind in KINDS]
)
def test_the_table_is_the_designs(
    states: type[StrEnum], events: type[StrEnum], table: dict[Any, Any], text: str
) -> None:
    written = {}
    for line in text.strip().splitlines():
        before, named, after = (part.strip() for part in line.split("|"))
        for state, event in itertools.product(before.split(", "), named.split(", ")):
            written[states(state), events(event)] = states(after)
    assert table == written


@pytest.mark.parametrize(("states", "table"), [(kind[1], kind[4]) for kind in KINDS])
def test_every_state_is_reached_and_every_way_ends(states: type[StrEnum], table: dict[Any, Any]) -> None:
    first = next(iter(states))
    reached, ends = {first}, {state for state in states if not any(before == state for before, _ in table)}
    while more := {after for (before, _), after in table.items() if before in reached} - reached:
        reached |= more
    assert reached == set(states)
    leads_to_end = set(ends)
    while more := {before for (before, _), after in table.items() if after in leads_to_end} - leads_to_end:
        leads_to_end |= more
    assert leads_to_end == set(states)


def test_the_sets_beside_the_table_say_what_it_says() -> None:
    assert {state for state in RunState if not any(before == state for before, _ in RUN_TRANSITIONS)} == RUN_ENDED
    assert {state for state in StageState if not any(before == state for before, _ in STAGE_TRANSITIONS)} == STAGE_ENDED
    ended = {state for state in DeploymentState if not any(before == state for before, _ in DEPLOYMENT_TRANSITIONS)}
    assert {*DeploymentState} - ended - {DeploymentState.UNKNOWN} == DEPLOYMENT_LOCKS


@pytest.mark.parametrize(("kind", "states", "events", "follow", "table", "_text"), KINDS)
@given(data=st.data())
def test_a_walk_never_leaves_an_end(
    data: st.DataObject, kind: str, states: type[StrEnum], events: type[StrEnum], follow: Next, table: Any, _text: str
) -> None:
    state = next(iter(states))
    ended = {one for one in states if not any(before == one for before, _ in table)}
    for event in data.draw(st.lists(st.sampled_from(list(events)), max_size=20)):
        try:
            after = follow(state, event)
        except UnknownTransitionError:
            continue
        assert state not in ended, f"a {kind} left {state} by {event}"
        state = after


@given(attempt=st.integers(1, 20), allowed=st.integers(1, 10))
def test_failures_are_tried_again_until_the_attempts_are_used_up(attempt: int, allowed: int) -> None:
    assert after_failure(attempt, allowed) is (StageEvent.RETRY if attempt < allowed else StageEvent.FAIL)


@given(interruptions=st.integers(1, 20), allowed=st.integers(1, 10))
def test_interruptions_are_given_up_when_there_are_too_many(interruptions: int, allowed: int) -> None:
    wanted = StageEvent.INTERRUPT if interruptions < allowed else StageEvent.GIVE_UP
    assert after_interruption(interruptions, allowed) is wanted
