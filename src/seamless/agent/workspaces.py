"""The code of a run: kept trees, copy-on-write views over them, and caches in layers.

A tree is immutable while a view of it exists. prepare's view is the run's claim on its tree; the
later stages' views lie over what prepare wrote and over that tree. A cache is a stack of layers: each
trusted run that succeeded has put on top what its stages had written.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tarfile
from collections.abc import Awaitable, Callable, Set
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from seamless.agent.store import Store, View
from seamless.archives import unpack
from seamless.config import Git, Parameters
from seamless.crashpoints import crash_point
from seamless.errors import ProgrammingError, StageError
from seamless.executors import LABEL_ROLE, LABEL_RUN, LABEL_STAGE, Executor, Mount
from seamless.forges import Credentials, Forge, Repository
from seamless.model import Run, Stage, StageName, Trust
from seamless.secretrefs import resolve
from seamless.stages import WORKSPACE, Checkout, Workspace
from seamless.transitions import RUN_ENDED, RunState

_CACHE_LAYERS_MAX: Final = 9  # of mount options of a page, with room for long paths
_LAYERS: Final = "layers"  # beside the upper folder of a view's cache: what lies below it
_CACHE_STAGES: Final = (StageName.UNIT_TEST, StageName.CODE_QUALITY, StageName.PREPARE)  # top of the stack first


def repository_of(url: str, git: Git) -> Repository:
    """The repository with the credentials that its parameters refer to. Raises ConfigError."""
    return Repository(
        url,
        Credentials(
            username=git.username,
            token=None if git.token is None else resolve(git.token),
            key_file=git.key,
            known_hosts=git.known_hosts,
        ),
    )


def _credentials_for(url: str, parameters: Parameters) -> Git:
    """The service's, for another repository: its token leaves no other scheme, host and port than its own."""
    mine, theirs = urlsplit(parameters.repo), urlsplit(url)
    if (mine.scheme, mine.netloc) == (theirs.scheme, theirs.netloc):
        return parameters.git
    return parameters.git.model_copy(update={"token": None})


def view_id(run: str, stage: StageName, attempt: int) -> str:
    return f"{run}-{stage}-{attempt}"


class RunWorkspaces:
    """Implements `stages.Workspaces`."""

    def __init__(self, data_dir: Path, installation: str, store: Store, forge: Forge, executor: Executor) -> None:
        self._trees = data_dir / "trees"
        self._views = data_dir / "views"
        self._caches = data_dir / "caches"
        self._local = data_dir / "local"
        self._installation = installation
        self._store = store
        self._forge = forge
        self._executor = executor
        for folder in (self._trees, self._views, self._local, self._caches / "empty" / "upper"):
            folder.mkdir(parents=True, exist_ok=True)

    # -- trees

    def local_source(self, run: str) -> Path:
        """Where the tar file of a `--local` run is."""
        return self._local / f"{run}.tar"

    async def claim(self, run: Run, attempt: int, spool: Path) -> Callable[[], Awaitable[Checkout]]:
        view = view_id(run.id, StageName.PREPARE, attempt)
        if run.options.local:
            return await self._claim_local(run, view)
        parameters = Parameters.model_validate(run.parameters)
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        await self._forge.fetch(repository, run.commit, run.ref, spool)
        commit = run.commit
        if run.base is not None:
            await self._forge.fetch(repository, run.base, f"refs/heads/{parameters.branch}", spool)
            commit = await self._forge.merge(repository, run.commit, run.base)
        return await self._claim(run.id, StageName.PREPARE, view, repository, commit)

    async def checkout_other(self, run: Run, stage: Stage, url: str, branch: str, spool: Path) -> Checkout:
        parameters = Parameters.model_validate(run.parameters)
        repository = await asyncio.to_thread(repository_of, url, _credentials_for(url, parameters))
        resolved = await self._forge.resolve(repository, f"refs/heads/{branch}")
        await self._forge.fetch(repository, resolved.commit, resolved.ref, spool)
        view = view_id(run.id, stage.name, stage.attempt)
        check_out = await self._claim(run.id, stage.name, view, repository, resolved.commit)
        return await check_out()

    async def _claim(
        self, run: str, stage: StageName, view: str, repository: Repository, commit: str
    ) -> Callable[[], Awaitable[Checkout]]:
        key = hashlib.sha256(repository.url.encode()).hexdigest()[:16]
        claim = View(view, run, stage, tree="", folder=view, kept_until=None)
        tree = await self._store.workspaces.claim_tree(key, commit, claim, new_tree=view)
        files, index = self._trees / tree.id / "files", self._trees / tree.id / "index"
        kept = files.exists()

        async def check_out() -> Checkout:
            if tree.commit == commit:
                return Checkout(files, changed=0, kept=True)
            crash_point("tree.checkout:before_effect")
            changed = await self._forge.checkout(repository, commit, files, index)
            crash_point("tree.checkout:after_effect")
            await self._store.workspaces.finish_tree(tree.id, commit)
            return Checkout(files, changed, kept)

        return check_out

    async def _claim_local(self, run: Run, view: str) -> Callable[[], Awaitable[Checkout]]:
        """The tree that the client streamed. It is the run's own and goes with it."""
        claim = View(view, run.id, StageName.PREPARE, tree="", folder=view, kept_until=None)
        tree = await self._store.workspaces.claim_tree(f"local/{run.id}", run.commit, claim, new_tree=view)
        files = self._trees / tree.id / "files"

        async def unpack() -> Checkout:
            if tree.commit == run.commit:
                return Checkout(files, changed=0, kept=True)
            if files.exists():
                await self._executor.remove_paths([files])
            files.mkdir(parents=True)
            try:
                count = await asyncio.to_thread(_unpack_file, self.local_source(run.id), files)
            except (tarfile.TarError, OSError) as error:
                raise StageError(f"the tree that was sent cannot be unpacked: {error}") from error
            await self._store.workspaces.finish_tree(tree.id, run.commit)
            return Checkout(files, count, kept=False)

        return unpack

    async def checked_out(self, run: Run) -> Path:
        return self._trees / (await self._prepared(run.id)).tree / "files"

    async def _prepared(self, run: str) -> View:
        views = [view for view in await self._store.workspaces.views_of(run) if view.stage == StageName.PREPARE]
        if not views:
            raise ProgrammingError(f"{run} has no tree: prepare has not run")
        return views[-1]

    # -- views

    async def open(self, run: Run, stage: Stage, parameters: Parameters, image: str) -> Workspace:
        name = view_id(run.id, stage.name, stage.attempt)
        prepared = await self._prepared(run.id)
        lower = [self._trees / prepared.tree / "files"]
        folder = self._views / name
        if stage.name is not StageName.PREPARE:
            await self._store.workspaces.add_view(View(name, run.id, stage.name, prepared.tree, name, kept_until=None))
            written = self._views / prepared.folder / "upper"
            if written.exists():
                lower.insert(0, written)
        labels = {LABEL_RUN: run.id, LABEL_STAGE: stage.name, LABEL_ROLE: "view"}
        volume = await self._executor.create_view(
            self._volume(name), lower=lower, upper=folder / "upper", labels=labels
        )
        mounts = [Mount(volume, WORKSPACE)]
        empty = 0
        if run.trust is not Trust.UNTRUSTED:
            for number, path in enumerate(parameters.caches):
                chosen = await self._layers_under(folder / f"cache{number}", run.service, str(path))
                layers = [self._caches / layer / "upper" for layer in chosen]
                empty += not layers
                written = self._views / prepared.folder / f"cache{number}" / "upper"
                if stage.name is not StageName.PREPARE and written.exists():
                    layers.insert(0, written)
                cache = await self._executor.create_view(
                    f"{volume}-cache{number}",
                    lower=layers or [self._caches / "empty" / "upper"],
                    upper=folder / f"cache{number}" / "upper",
                    labels=labels,
                )
                mounts.append(Mount(cache, str(path)))
        if parameters.user is not None:
            for mount in mounts:
                await self._executor.own_view(mount.source, parameters.user, image)
        return Workspace(tuple(mounts), folder / "upper", empty)

    async def _layers_under(self, cache: Path, service: str, path: str) -> list[str]:
        """The layers that a view's cache stands on. Chosen once: another run may put one on top while a container uses
        the view, which then cannot be made anew."""
        file = cache / _LAYERS
        if not await asyncio.to_thread(file.exists):
            known = await self._store.workspaces.cache_layers(service, path)
            layers = [layer for layer in known if (self._caches / layer / "upper").is_dir()]  # else lost
            await asyncio.to_thread(_write_layers, file, layers)
        return await asyncio.to_thread(_read_layers, file)

    def _volume(self, view: str) -> str:
        return f"seamless-{self._installation}-{view}"

    async def open_for_shell(self, run: Run, stage: Stage, shell: str) -> tuple[Mount, ...]:
        """A view over what a stage left, so that nothing written in the shell reaches a rerun."""
        view = await self._store.workspaces.view(view_id(run.id, stage.name, stage.attempt))
        if view is None:
            raise StageError(f"the workspace of {stage.name} of {run.id} is gone")
        prepared = await self._prepared(run.id)
        folders = [self._views / view.folder / "upper", self._views / prepared.folder / "upper"]
        lower = [folder for folder in dict.fromkeys(folders) if folder.exists()]
        volume = await self._executor.create_view(
            self._volume(shell),
            lower=[*lower, self._trees / view.tree / "files"],
            upper=self._views / shell / "upper",
            labels={LABEL_RUN: run.id, LABEL_STAGE: stage.name, LABEL_ROLE: "shell"},
        )
        return (Mount(volume, WORKSPACE),)

    async def close_shell(self, shell: str) -> None:
        await self._executor.remove_view(self._volume(shell))
        await self._executor.remove_paths([self._views / shell])

    async def inherit(self, run: str, of: Run) -> bool:
        """Lets `run` build upon what prepare left in another run; False when it is gone."""
        async with self._store.transaction():
            try:
                prepared = await self._prepared(of.id)
            except ProgrammingError:
                return False
            await self._store.workspaces.add_view(
                View(view_id(run, StageName.PREPARE, 0), run, StageName.PREPARE, prepared.tree, prepared.folder, None)
            )
            return True

    # -- the end of a run

    async def keep_caches(self, run: Run) -> None:
        """Puts what a trusted run that succeeded has written on top of its service's caches."""
        if run.trust is not Trust.TRUSTED or run.state is not RunState.SUCCESS:
            return
        views = {view.stage: view for view in await self._store.workspaces.views_of(run.id)}
        for number, path in enumerate(Parameters.model_validate(run.parameters).caches):
            if f"{run.id}-flat-{number}" in await self._store.workspaces.cache_layers(run.service, str(path)):
                continue  # by an agent that died while it removed the layers of which it had made one
            new = [
                layer
                for stage in _CACHE_STAGES
                if stage in views
                and (
                    layer := self._keep_layer(self._views / views[stage].folder / f"cache{number}", run, stage, number)
                )
            ]
            if new:
                async with self._store.transaction():  # another run of the service may end at the same time
                    below = await self._store.workspaces.cache_layers(run.service, str(path))
                    below = [layer for layer in below if layer not in new]
                    await self._store.workspaces.set_cache_layers(run.service, str(path), new + below, run=run.id)
                if len(new + below) > _CACHE_LAYERS_MAX:
                    await self._flatten(run, number, str(path), new + below)

    async def _flatten(self, run: Run, number: int, path: str, layers: list[str]) -> None:
        """Makes one layer of many. The old ones go when nothing can stand on them, else with the next start's sweep."""
        flat = f"{run.id}-flat-{number}"
        volume = await self._executor.create_view(
            self._volume(flat),
            lower=[self._caches / layer / "upper" for layer in layers],
            upper=self._views / flat / "upper",
            labels={LABEL_RUN: run.id, LABEL_ROLE: "view"},
        )
        await self._executor.copy_view(volume, self._caches / flat / "upper")
        await self._executor.remove_view(volume)
        await self._executor.remove_paths([self._views / flat])
        await self._store.workspaces.set_cache_layers(run.service, path, [flat], run=run.id)
        if not await self._store.runs.newest(service=run.service, states=list(set(RunState) - RUN_ENDED), limit=1):
            await self._executor.remove_paths([self._caches / layer for layer in layers])

    def _keep_layer(self, written: Path, run: Run, stage: StageName, number: int) -> str | None:
        """Moves what a stage wrote to the caches; None when it wrote nothing."""
        layer = f"{run.id}-{stage}-{number}"
        kept = self._caches / layer
        if kept.exists():  # moved by an agent that was killed before it recorded that
            return layer
        with contextlib.suppress(FileNotFoundError):
            if any((written / "upper").iterdir()):
                written.rename(kept)
                crash_point("cache.layer:after_effect")
                return layer
        return None

    async def discard(self, run: Run) -> None:
        """Removes the run's views, but not what another run or a shell still stands on."""
        await self.discard_views(await self._store.workspaces.views_of(run.id))

    async def discard_views(self, views: list[View]) -> None:
        folders = [self._views / view.folder for view in views if await self._store.workspaces.drop_view(view)]
        local = [view.tree for view in views if await self._is_local(view.tree)]
        trees = [self._trees / tree for tree in dict.fromkeys(local) if await self._store.workspaces.drop_tree(tree)]
        existing = [path for path in (*folders, *trees) if path.exists()]
        if existing:
            await self._executor.remove_paths(existing)

    async def _is_local(self, tree: str) -> bool:
        return any(
            known.id == tree and known.repository.startswith("local/")
            for known in await self._store.workspaces.all_trees()
        )

    async def maintain(self, run: Run) -> None:
        """Packs the mirror of an ended run's repository when that is due."""
        if not run.options.local:
            parameters = Parameters.model_validate(run.parameters)
            await self._forge.maintain(await asyncio.to_thread(repository_of, parameters.repo, parameters.git))

    async def sweep(self, active: Set[str], uncleaned: Set[str]) -> None:
        """Removes every folder that the store does not account for. The layers of runs that are still to be cleaned
        up after may have been moved to the caches and not recorded yet."""
        views = {view.folder for view in await self._store.workspaces.all_views()}
        trees = {tree.id for tree in await self._store.workspaces.all_trees()}
        layers = await self._store.workspaces.all_cache_layers() | {"empty"}
        for used in self._views.glob(f"*/cache*/{_LAYERS}"):
            if used.parts[-3] in views:
                layers |= set(_read_layers(used))
        stray = [path for path in self._views.iterdir() if path.name not in views]
        stray += [path for path in self._trees.iterdir() if path.name not in trees]
        stray += [
            path
            for path in self._caches.iterdir()
            if path.name not in layers and path.name.rsplit("-", 2)[0] not in uncleaned
        ]
        stray += [path for path in self._local.iterdir() if path.stem not in active]
        if stray:
            await self._executor.remove_paths(stray)


def _write_layers(file: Path, layers: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(layers), encoding="utf-8")
    new.rename(file)


def _read_layers(file: Path) -> list[str]:
    layers: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return layers


def _unpack_file(source: Path, files: Path) -> int:
    with tarfile.open(source, "r:") as archive:
        return unpack(archive, files, links=True)
