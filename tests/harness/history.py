"""The history must tell what happened: replayed through the transition table, it ends in the states that are stored."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from seamless.transitions import (
    DeploymentEvent,
    DeploymentState,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    next_deployment_state,
    next_run_state,
    next_stage_state,
)


def assert_history_replays(database: Path) -> None:
    """Checks the database of an agent that has ended: whole, ids without gaps, and every stored state the outcome of
    its events in order, each of them a row of the table."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    try:
        assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
        events = connection.execute("SELECT * FROM events ORDER BY id").fetchall()
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        assert [event["at"] for event in events] == sorted(event["at"] for event in events)
        runs, attempts, deployments = _replay(events, connection)
        stored = connection.execute("SELECT id, state FROM runs").fetchall()
        assert runs == {row["id"]: row["state"] for row in stored}
        stages = connection.execute("SELECT run, name, state, attempt FROM stages").fetchall()
        assert attempts == {(row["run"], row["name"]): (row["state"], row["attempt"]) for row in stages}
        found = connection.execute("SELECT id, state FROM deployments").fetchall()
        assert deployments == {row["id"]: row["state"] for row in found}
    finally:
        connection.close()


_Stages = dict[tuple[str, str], tuple[str, int]]


def _replay(
    events: list[sqlite3.Row], connection: sqlite3.Connection
) -> tuple[dict[str, str], _Stages, dict[int, str]]:
    runs: dict[str, RunState] = {}
    deployments: dict[int, DeploymentState] = {}
    created = connection.execute("SELECT run, name FROM stages").fetchall()
    stages: _Stages = {(row["run"], row["name"]): (StageState.IDLE, 0) for row in created}
    for event in events:
        data, name = json.loads(event["data"]), event["name"]
        told = (event["from_state"], event["to_state"])
        match event["kind"]:
            case "run" if name == "create":
                assert event["run"] not in runs
                runs[event["run"]] = RunState(event["to_state"])
            case "run":
                before = runs[event["run"]]
                runs[event["run"]] = next_run_state(before, RunEvent(name))
                assert told == (before, runs[event["run"]])
            case "stage":
                state, attempt = stages[event["run"], event["stage"]]
                after = next_stage_state(StageState(state), StageEvent(name))
                attempt += name == StageEvent.START
                stages[event["run"], event["stage"]] = (after, attempt)
                assert (*told, data["attempt"]) == (state, after, attempt)
            case "deployment" if name == "record":
                assert data["deployment"] not in deployments
                deployments[data["deployment"]] = DeploymentState(event["to_state"])
            case "deployment":
                earlier = deployments[data["deployment"]]
                deployments[data["deployment"]] = next_deployment_state(earlier, DeploymentEvent(name))
                assert told == (earlier, deployments[data["deployment"]])
    return dict(runs), stages, dict(deployments)
