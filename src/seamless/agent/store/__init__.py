"""The durable memory of the agent. All SQL of the program is in this package."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from seamless.agent.store.database import Database, StoreError
from seamless.agent.store.deployments import DeployLockedError, Deployments
from seamless.agent.store.events import Events
from seamless.agent.store.heads import Heads
from seamless.agent.store.images import Images
from seamless.agent.store.runs import NewRun, Runs, StaleStateError
from seamless.agent.store.workspaces import Tree, View, Workspaces

__all__ = [
    "DeployLockedError",
    "NewRun",
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

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Opens, creates or migrates the database. Raises StoreError."""
        store = cls(await Database.open(path))
        await store.events.load()
        return store

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing for everything the calling task stores inside."""
        return self._database.transaction()

    async def close(self) -> None:
        await self._database.close()
