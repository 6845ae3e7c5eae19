"""Someone's word for a run that waits: before production, or, a fork's, before anything."""

from __future__ import annotations

import dataclasses
from typing import Final

from seamless.agent.access import Role
from seamless.agent.gate import Gatekeeper, Order, refusal
from seamless.agent.operations import Operations
from seamless.agent.store import StaleStateError, Store
from seamless.clock import age_in_words
from seamless.errors import RefusedError, UsageError
from seamless.model import Actor, Approval, Run, short, utc_now
from seamless.transitions import RunEvent, RunState

_IS: Final = {
    RunState.IDLE: "it has not started yet",
    RunState.IN_PROGRESS: "it is running",
    RunState.AWAITING_APPROVAL: "it has just begun to",
    RunState.SUCCESS: "it has succeeded",
    RunState.FAILURE: "it has failed",
    RunState.CANCELLED: "it was cancelled",
}
_BECAME: Final = {"approve": "approved", "reject": "rejected", "expire": "expired", "void": "void"}


class Approvals:
    def __init__(self, store: Store, operations: Operations, gatekeeper: Gatekeeper) -> None:
        self._store = store
        self._operations = operations
        self._gatekeeper = gatekeeper

    async def approve(self, actor: Actor, name: str, *, release: bool, allow_rewritten: bool) -> Run:
        self._operations.require(actor, Role.APPROVER, f"approve {name}")
        run = await self._find_waiting(name)
        assert run.approval is not None
        if run.options.gated:
            if release or allow_rewritten:
                raise UsageError(f"{run.id} is a fork's and ends before production: it takes no option")
            return await self._pass(actor, run, dataclasses.replace(run.approval, by=actor.name))
        gate = await self._gatekeeper.look(run)
        refused = refusal(run, gate)
        if refused is not None:
            raise RefusedError(f"{run.id} cannot go to production: {refused}")
        if gate.order is Order.REWRITTEN and not allow_rewritten and gate.production is not None:
            raise RefusedError(
                f"production runs {short(gate.production)}, which is not in the history of {short(run.commit)}",
                hint=f"if the history was rewritten on purpose: seamless approve {run.id} --allow-rewritten",
            )
        if gate.production_digest != run.approval.production:
            raise RefusedError(f"production has changed since {run.id} began to wait", hint=f"seamless show {run.id}")
        approval = dataclasses.replace(run.approval, by=actor.name, release=release, allow_rewritten=allow_rewritten)
        return await self._pass(actor, run, approval)

    async def _pass(self, actor: Actor, run: Run, approval: Approval) -> Run:
        try:
            async with self._store.transaction():
                approved = await self._store.runs.transition(run, RunEvent.APPROVE, actor=actor.name)
                await self._store.runs.set_approval(run.id, approval)
                if approval.release:
                    await self._store.deployments.release_with(run.service, run.id)
                words = {"release": approval.release, "allow_rewritten": approval.allow_rewritten}
                await self._operations.audit(actor, "approve", approved, {**words, "commit": run.commit})
        except StaleStateError:
            run = await self._store.runs.get(run.id)
            raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}") from None
        return await self._store.runs.get(run.id)

    async def reject(self, actor: Actor, name: str, why: str) -> Run:
        self._operations.require(actor, Role.APPROVER, f"reject {name}")
        run = await self._find_waiting(name)
        try:
            async with self._store.transaction():
                rejected = await self._store.end_waiting(run, RunEvent.REJECT, reason=why, actor=actor.name)
                await self._operations.audit(actor, "reject", rejected, {"why": why})
        except StaleStateError:
            run = await self._store.runs.get(run.id)
            raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}") from None
        return rejected

    async def _find_waiting(self, name: str) -> Run:
        """A run that waits for approval, by id or service. Says what became of one that does not. A service's name
        means the run that waits before production, else the only commit of a fork."""
        waiting = await self._store.runs.newest(service=name, states=[RunState.AWAITING_APPROVAL])
        before_production = [run for run in waiting if not run.options.gated]
        if before_production:
            return before_production[0]
        if len(waiting) > 1:
            listed = ", ".join(run.id for run in waiting)
            raise UsageError(f"several commits of forks wait for approval: {listed}", hint="name one of them")
        if waiting:
            return waiting[0]
        run = await self._operations.find_run(name)
        if run.state is RunState.AWAITING_APPROVAL:
            return run
        raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}")

    async def _became(self, run: Run) -> str:
        for event in reversed(await self._store.events.page(run=run.id, kind="run")):
            if (words := _BECAME.get(event.name)) is not None:
                reason = f" ({event.reason})" if event.reason else ""
                ago = age_in_words((utc_now() - event.at).total_seconds())
                return f"it was {words} by {event.actor} {ago} ago{reason}"
        return _IS[run.state]
