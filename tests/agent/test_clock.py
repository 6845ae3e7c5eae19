"""Time spent is counted across stops, restarts and reboots, and by no clock that can be set."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from seamless import clock
from seamless.model import Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, in the test's hands."""
    value = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: value[0])
    return value


def test_only_running_time_counts(now: list[float]) -> None:
    first = clock.started(None)
    now[0] += 5
    assert clock.spent_s(first) == 5
    stopped = clock.stopped(first)
    now[0] += 1000
    assert clock.spent_s(stopped) == 5
    again = clock.started(stopped)
    now[0] += 2
    assert clock.spent_s(again) == 7
    assert clock.spent_s(None) == 0


def test_starting_what_runs_changes_nothing(now: list[float]) -> None:
    first = clock.started(None)
    now[0] += 5
    assert clock.started(first) is first


def test_what_ran_before_a_reboot_ended_with_it(now: list[float]) -> None:
    running = replace(clock.started(Clock(clock.boot_id(), 3.0)), boot="another boot")
    now[0] = 2.0  # the monotonic clock begins anew
    assert clock.spent_s(running) == 3
    again = clock.started(running)
    now[0] += 4
    assert clock.spent_s(again) == 7


def test_setting_the_time_of_day_moves_nothing(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    running = clock.started(None)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    now[0] += 1
    assert clock.spent_s(running) == 1
