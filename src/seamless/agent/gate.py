"""The gate before production: order, holds, and what an approval is bound to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from seamless.agent.store import Store
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters
from seamless.forges import Forge
from seamless.model import Environment, Run, StageName, Trigger, short


class Order(Enum):
    """How a candidate's commit stands to the one that production runs."""

    FORWARD = auto()  # production is empty, or its commit is the candidate's ancestor
    OLDER = auto()  # production's commit has the candidate's in its history
    REWRITTEN = auto()  # neither has the other in its history


@dataclass(frozen=True, slots=True)
class Gate:
    """What stands between a run and production now."""

    order: Order
    production: str | None  # the commit that runs there
    production_digest: str | None
    production_run: str | None
    held: str | None  # why, when the service is on hold


class Gatekeeper:
    def __init__(self, store: Store, forge: Forge) -> None:
        self._store = store
        self._forge = forge

    async def look(self, run: Run) -> Gate:
        current = await self._store.deployments.current(run.service, Environment.PRODUCTION)
        hold = await self._store.deployments.hold(run.service)
        return Gate(
            order=await self._order(run, None if current is None else current.commit),
            production=None if current is None else current.commit,
            production_digest=None if current is None else current.image.digest,
            production_run=None if current is None else current.run,
            held=None if hold is None else hold.why,
        )

    async def _order(self, run: Run, production: str | None) -> Order:
        if production is None or production == run.commit or run.trigger is Trigger.ROLLBACK:
            return Order.FORWARD
        parameters = Parameters.model_validate(run.parameters)
        repository = repository_of(parameters.repo, parameters.git)
        if await self._forge.is_ancestor(repository, production, run.commit):
            return Order.FORWARD
        if await self._forge.is_ancestor(repository, run.commit, production):
            return Order.OLDER
        return Order.REWRITTEN

    async def refused_by_staging(self, run: Run) -> str | None:
        """Why staging does not take this run: a newer `main` run is there already."""
        if run.trigger is not Trigger.MAIN:
            return None
        newest = await self._store.deployments.newest_main_number(run.service, Environment.STAGING)
        if newest is None or newest <= run.number:
            return None
        return f"staging already runs {run.service}-{newest}, which is newer"


def refusal(run: Run, gate: Gate) -> str | None:
    """Why production will never take this run, None when it may (perhaps after an approval)."""
    if gate.order is not Order.OLDER or gate.production is None:
        return None
    return f"production runs {short(gate.production)} ({gate.production_run}), which is newer than {short(run.commit)}"


def why_wait(run: Run, gate: Gate, *, auto_deploy: bool) -> str | None:
    """Why this run needs someone's word before production; None when it needs none (any more)."""
    if run.trigger in (Trigger.ROLLBACK, Trigger.PROMOTE):
        return None
    if run.approval is not None and run.approval.by is not None:
        return None
    if gate.held is not None:
        return f"{run.service} is on hold: {gate.held}"
    if gate.order is Order.REWRITTEN and gate.production is not None:
        return f"production runs {short(gate.production)}, which is not in the history of {short(run.commit)}"
    if auto_deploy:
        return None
    if run.stage(StageName.DEPLOY_STAGING) is not None:
        return f"staging runs {short(run.commit)} and is healthy"
    return f"{short(run.commit)} has passed all tests"
