"""Trees, the views over them, and the layers of caches: who may touch what is decided here."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from seamless.agent.store import rows
from seamless.agent.store.database import Database
from seamless.model import utc_now


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout. `commit` is None while it is being written, and after a writer died."""

    id: str
    repository: str
    commit: str | None


@dataclass(frozen=True, slots=True)
class View:
    """A copy-on-write folder over a tree. While it exists, the tree does not change."""

    id: str
    run: str
    stage: str
    tree: str
    folder: str
    kept_until: datetime | None


class Workspaces:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def claim_tree(self, repository: str, commit: str, view: View, new_tree: str) -> Tree:
        """A tree for `view` (whose `tree` is ignored): one that holds the commit, else an unused one of
        the repository, whose `commit` is then None until `finish_tree`, else the new one. The same view
        again gets the same tree."""
        async with self._db.transaction():
            known = await self._db.row(
                "SELECT t.* FROM views v JOIN trees t ON t.id = v.tree WHERE v.id = ?", (view.id,)
            )
            if known is not None:
                return _tree(known)
            found = await self._db.row(
                "SELECT t.*, t.commit_sha IS ?2 AS exact FROM trees t WHERE repository = ?1 AND"
                " (commit_sha IS ?2 OR NOT EXISTS (SELECT 1 FROM views v WHERE v.tree = t.id))"
                " ORDER BY exact DESC, used_at DESC LIMIT 1",
                (repository, commit),
            )
            now = rows.to_time(utc_now())
            if found is None:
                tree = Tree(new_tree, repository, None)
                await self._db.write(
                    "INSERT INTO trees (id, repository, commit_sha, used_at) VALUES (?, ?, NULL, ?)",
                    (tree.id, repository, now),
                )
            else:
                tree = Tree(found["id"], repository, commit if found["exact"] else None)
                await self._db.write(
                    "UPDATE trees SET commit_sha = ?, used_at = ? WHERE id = ?", (tree.commit, now, tree.id)
                )
            await self._insert_view(view, tree.id)
            return tree

    async def finish_tree(self, tree: str, commit: str) -> None:
        """The checkout is whole."""
        async with self._db.transaction():
            await self._db.write("UPDATE trees SET commit_sha = ? WHERE id = ?", (commit, tree))

    async def add_view(self, view: View) -> None:
        """The same again changes nothing."""
        async with self._db.transaction():
            await self._insert_view(view, view.tree)

    async def _insert_view(self, view: View, tree: str) -> None:
        await self._db.write(
            "INSERT OR IGNORE INTO views (id, run, stage, tree, folder) VALUES (?, ?, ?, ?, ?)",
            (view.id, view.run, view.stage, tree, view.folder),
        )

    async def view(self, view: str) -> View | None:
        row = await self._db.row("SELECT * FROM views WHERE id = ?", (view,))
        return None if row is None else _view(row)

    async def views_of(self, run: str) -> list[View]:
        return [_view(row) for row in await self._db.rows("SELECT * FROM views WHERE run = ?", (run,))]

    async def all_views(self) -> list[View]:
        return [_view(row) for row in await self._db.rows("SELECT * FROM views")]

    async def all_trees(self) -> list[Tree]:
        return [_tree(row) for row in await self._db.rows("SELECT * FROM trees")]

    async def keep_views(self, run: str, until: datetime) -> None:
        """A failed run's views stay for a shell or a rerun."""
        async with self._db.transaction():
            await self._db.write("UPDATE views SET kept_until = ? WHERE run = ?", (rows.to_time(until), run))

    async def expired_views(self) -> list[View]:
        now = rows.to_time(utc_now())
        return [_view(row) for row in await self._db.rows("SELECT * FROM views WHERE kept_until < ?", (now,))]

    async def drop_view(self, view: View) -> bool:
        """True when nothing else names its folder, which may then be removed."""
        async with self._db.transaction():
            await self._db.write("DELETE FROM views WHERE id = ?", (view.id,))
            return await self._db.row("SELECT 1 FROM views WHERE folder = ?", (view.folder,)) is None

    async def drop_tree(self, tree: str) -> bool:
        """False when a view names it."""
        async with self._db.transaction():
            return bool(
                await self._db.write(
                    "DELETE FROM trees WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM views WHERE tree = ?1)", (tree,)
                )
            )

    async def forget_all(self) -> None:
        """The folders are gone: views, trees and caches with them."""
        async with self._db.transaction():
            for table in ("views", "trees", "caches"):
                await self._db.write(f"DELETE FROM {table}")

    async def cache_layers(self, service: str, path: str) -> list[str]:
        row = await self._db.row("SELECT layers FROM caches WHERE service = ? AND path = ?", (service, path))
        return [] if row is None else list(json.loads(row["layers"]))

    async def set_cache_layers(self, service: str, path: str, layers: list[str], *, run: str) -> None:
        async with self._db.transaction():
            await self._db.write(
                "INSERT INTO caches (service, path, layers, written_by) VALUES (?, ?, ?, ?) ON CONFLICT (service, path)"
                " DO UPDATE SET layers = excluded.layers, written_by = excluded.written_by",
                (service, path, rows.to_json(layers), run),
            )

    async def all_cache_layers(self) -> set[str]:
        found = await self._db.rows("SELECT layers FROM caches")
        return {layer for row in found for layer in json.loads(row["layers"])}


def _tree(row: sqlite3.Row) -> Tree:
    return Tree(id=row["id"], repository=row["repository"], commit=row["commit_sha"])


def _view(row: sqlite3.Row) -> View:
    return View(
        id=row["id"],
        run=row["run"],
        stage=row["stage"],
        tree=row["tree"],
        folder=row["folder"],
        kept_until=rows.optional_time(row["kept_until"]),
    )
