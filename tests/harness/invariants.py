"""What must hold after every fault: the store accounts for everything that is there, and its history for the store."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from harness.agents import Agent
from harness.engine import labelled
from harness.history import assert_history_replays

_PER_RUN = ("spool", "work", "local")
_PATIENCE_S = 60.0


def assert_accounted_for(agent: Agent) -> None:
    """Ends an agent whose runs are all over, and looks at what there is then: on the engine, among the mounts and the
    processes, in its folders, and in its database.
    """
    if not agent.is_running():
        agent.start()
    agent.await_clean()
    await_cleaned(agent)
    agent.stop()
    database = agent.data_dir / "seamless.db"
    assert_history_replays(database)
    left = _unaccounted(agent)
    assert left == [], f"left behind: {left}\n{agent.said()}"


def await_cleaned(agent: Agent) -> None:
    """Folders go after what used them; a run is marked after all."""
    deadline = time.monotonic() + _PATIENCE_S
    while _query(agent, "SELECT id FROM runs WHERE cleaned = 0 AND ended_at IS NOT NULL"):
        assert time.monotonic() < deadline, agent.said()
        time.sleep(0.1)


def _unaccounted(agent: Agent) -> list[str]:
    return [*_objects(agent), *_mounts(agent), *_processes(agent), *_folders(agent)]


def _objects(agent: Agent) -> list[str]:
    """Containers, volumes and networks. What is deployed is in the store, one container for each place."""
    found = labelled(agent.installation)
    deployed = set(found["container"]) - set(labelled(agent.installation, but=("deployment",))["container"])
    places = _query(agent, "SELECT DISTINCT service, environment FROM deployments WHERE state = 'success'")
    environments = {environment for _, environment in places}
    networks = {f"seamless-{agent.installation}-{environment}" for environment in environments}
    stray = sorted(set(found["container"]) - deployed) + found["volume"] + sorted(set(found["network"]) - networks)
    if len(deployed) != len(places):
        stray.append(f"{sorted(deployed)} are deployed, and in the store {places}")
    return stray


def _mounts(agent: Agent) -> list[str]:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line for line in mounts if f"{agent.data_dir}/" in line]


def _processes(agent: Agent) -> list[str]:
    """Programs of the agent's: all of them are told of its data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if f"{agent.data_dir}/" in command:
            found.append(f"{process.name} {command}")
    return found


def _folders(agent: Agent) -> list[str]:
    runs = {row[0] for row in _query(agent, "SELECT id FROM runs WHERE cleaned = 0")}
    views = {row[0] for row in _query(agent, "SELECT folder FROM views")}
    trees = {row[0] for row in _query(agent, "SELECT id FROM trees")}
    layers = {layer for row in _query(agent, "SELECT layers FROM caches") for layer in json.loads(row[0])} | {"empty"}
    known = {"views": views, "trees": trees, "caches": layers, **dict.fromkeys(_PER_RUN, runs)}
    return [
        str(path)
        for folder, names in known.items()
        for path in (agent.data_dir / folder).iterdir()
        if path.name.removesuffix(".tar") not in names  # of local trees
    ]


def _query(agent: Agent, sql: str) -> list[tuple[str, ...]]:
    """Read by a connection of its own, as no client of ours does: it is closed before anything is written again."""
    connection = sqlite3.connect(f"file:{agent.data_dir}/seamless.db?mode=ro", uri=True)
    try:
        return [tuple(row) for row in connection.execute(sql)]
    finally:
        connection.close()
