"""Tells those who wait: what was stored, by whomever, wakes the drivers and ends the logs it concerns."""

from __future__ import annotations

from seamless.agent.engine import Engine
from seamless.agent.logs import LogId, LogStore
from seamless.agent.store import Store
from seamless.model import Event, StageName
from seamless.transitions import STAGE_ENDED, DeploymentState, RunState, StageState

_BATCH = 500


async def react(store: Store, engine: Engine, logs: LogStore) -> None:
    """Follows the history for ever, from now on."""
    seen = store.events.newest.value
    while True:
        await store.events.newest.beyond(seen)
        for event in await store.events.page(after=seen, limit=_BATCH):
            seen = event.id
            _react_to(event, engine, logs)


def _react_to(event: Event, engine: Engine, logs: LogStore) -> None:
    if event.kind == "stage" and event.run is not None and event.to_state in STAGE_ENDED:
        assert event.stage is not None
        logs.end(LogId(event.run, StageName(event.stage)))
        if event.stage == StageName.INTEGRATION_TEST and event.to_state == StageState.SUCCESS:
            engine.clear_tests(event.run)
    elif event.kind in ("run", "action") and event.run is not None:
        engine.wake(event.run)
        if event.kind == "run" and event.to_state == RunState.AWAITING_APPROVAL:
            engine.tidy(event.run)
    elif event.kind in ("deployment", "action") and event.service is not None:
        if event.run is not None and event.to_state == DeploymentState.SUCCESS:
            engine.retire(event.run)
        engine.wake_service(event.service)
