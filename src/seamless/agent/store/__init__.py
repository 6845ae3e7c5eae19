"""The durable memory of the agent. All SQL of the program is in this package."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from seamless.agent.store.database import SCHEMA_VERSION, Database, StoreError
from seamless.agent.store.deliveries import Deliveries, Delivery, NewDelivery
from seamless.agent.store.deployments import DeployLockedError, Deployments
from seamless.agent.store.events import Events
from seamless.agent.store.heads import Heads, KnownPullRequest
from seamless.agent.store.images import Images
from seamless.agent.store.outbox import Message, Outbox, Outcome
from seamless.agent.store.repositories import Repositories
from seamless.agent.store.retention import Retention
from seamless.agent.store.runs import NewRun, Runs, StaleStateError
from seamless.agent.store.workspaces import Tree, View, Workspaces
from seamless.model import Run
from seamless.transitions import RunEvent, RunState, StageEvent, StageState

__all__ = [
    "SCHEMA_VERSION",
    "Delivery",
    "DeployLockedError",
    "KnownPullRequest",
    "Message",
    "NewDelivery",
    "NewRun",
    "Outcome",
    "StaleStateError",
    "Store",
    "StoreError",
    "Tree",
    "View",
]


class Store:
    """The tables by subject. A method is one transaction, or joins the one that the caller opened."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.events = Events(database)
        self.runs = Runs(database, self.events)
        self.images = Images(database)
        self.deployments = Deployments(database, self.events)
        self.workspaces = Workspaces(database)
        self.heads = Heads(database)
        self.retention = Retention(database, self.events)
        self.outbox = Outbox(database)
        self.deliveries = Deliveries(database)
        self.repositories = Repositories(database)

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Opens, creates or migrates the database. Raises StoreError."""
        store = cls(await Database.open(path))
        await store.events.load()
        return store

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing for everything the calling task stores inside."""
        return self._database.transaction()

    async def snapshot(self, path: Path) -> None:
        """A copy of the database, in a new file. Raises StorageError."""
        await self._database.snapshot(path)

    async def end_waiting(self, run: Run, event: RunEvent, *, reason: str, actor: str) -> Run:
        """Ends a run that waits for approval, with all that it has not started."""
        async with self.transaction():
            for stage in run.stages:
                if stage.state is StageState.IDLE:
                    await self.runs.transition_stage(run, stage, StageEvent.CANCEL, reason=reason, actor=actor)
            return await self.runs.transition(run, event, reason=reason, actor=actor)

    async def void_waiting(self, cause: Run, reason: str, *, older_than: int | None = None) -> None:
        """Voids the approvals that the service's other runs wait for before production."""
        async with self.transaction():
            for run in await self.runs.newest(service=cause.service, states=[RunState.AWAITING_APPROVAL]):
                if run.id != cause.id and not run.options.fork and (older_than is None or run.number < older_than):
                    await self.end_waiting(run, RunEvent.VOID, reason=reason, actor="agent")

    async def close(self) -> None:
        await self._database.close()
