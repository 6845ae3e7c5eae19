"""Someone's word for a run that waits before production."""

from __future__ import annotations

import dataclasses

from seamless.agent.access import Role
from seamless.agent.gate import Gatekeeper, Order, refusal
from seamless.agent.operations import Operations
from seamless.agent.store import StaleStateError, Store
from seamless.errors import RefusedError
from seamless.model import Actor, Run, short
from seamless.transitions import RunEvent, RunState


class Approvals:
    def __init__(self, store: Store, operations: Operations, gatekeeper: Gatekeeper) -> None:
        self._store = store
        self._operations = operations
        self._gatekeeper = gatekeeper

    async def approve(self, actor: Actor, name: str, *, release: bool, allow_rewritten: bool) -> Run:
        self._operations.require(actor, Role.APPROVER, f"approve {name}")
        run = await self._find_waiting(name)
        assert run.approval is not None
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
        try:
            async with self._store.transaction():
                approved = await self._store.runs.transition(run, RunEvent.APPROVE, actor=actor.name)
                await self._store.runs.set_approval(run.id, approval)
                if release:
                    await self._store.deployments.release_with(run.service, run.id)
                await self._operations.audit(
                    actor, "approve", approved, {"release": release, "allow_rewritten": allow_rewritten}
                )
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
        """A run that waits for approval, by id or service. Says what became of one that does not."""
        waiting = await self._store.runs.newest(service=name, states=[RunState.AWAITING_APPROVAL], limit=1)
        if waiting:
            return waiting[0]
        run = await self._operations.find_run(name)
        if run.state is RunState.AWAITING_APPROVAL:
            return run
        raise RefusedError(f"{run.id} is not waiting for approval: {await self._became(run)}")

    async def _became(self, run: Run) -> str:
        for event in reversed(await self._store.events.after(0, run=run.id, limit=1000)):
            if event.name in ("approve", "reject", "expire", "void") and event.kind == "run":
                words = {"approve": "approved", "reject": "rejected", "expire": "expired", "void": "void"}[event.name]
                reason = f" ({event.reason})" if event.reason else ""
                return f"it was {words} by {event.actor} at {event.at:%Y-%m-%d %H:%M:%S} UTC{reason}"
        return f"it is {run.state}"
