"""As `wire`: what a run would do."""

from __future__ import annotations

from typing_extensions import TypedDict


class PlannedStageJSON(TypedDict):
    name: str
    skipped: str | None  # why


class PlannedDeployJSON(TypedDict):
    environment: str
    target: str
    difference: list[str]  # what the task definition's changes are
    problem: str | None  # why that cannot be told, or why the deployment would be refused


class PlanJSON(TypedDict):
    """POST /v1/services/{service}/plan, with a RunRequest: what such a run would do."""

    service: str
    commit: str
    ref: str
    stages: list[PlannedStageJSON]
    image: str | None  # of that commit, when there is one already
    deploys: list[PlannedDeployJSON]
    approval: bool  # whether production waits for one
