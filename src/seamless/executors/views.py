"""Copy-on-write views of workspaces: overlay volumes, or copies where the host cannot mount an overlay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from seamless.errors import ConfigError, StageError
from seamless.executors import LABEL_INSTALLATION, Mount
from seamless.executors.chores import Chores
from seamless.executors.container_config import owned
from seamless.executors.engine import Engine, EngineError

# Beside an upper folder that holds all of its view, and not only what differs from the lower ones.
_COMPLETE: Final = "complete"
# In the data directory: where its host has mounted an overlay, so that this is not tried at every start.
_TRIED: Final = "overlay"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
# Folders of the data directory that live for one trial.
_TRIAL: Final = "trial-"

_COPY: Final = 'for from in "$@"; do cp -a "$from/." /upper/; done'
_OWN: Final = 'find /view ! \\( -user "$1" -group "$2" \\) -exec chown -h "$1:$2" {} +'


class Views:
    """Makes and removes views whose folders lie below `data_dir`."""

    def __init__(self, engine: Engine, chores: Chores, *, data_dir: Path, installation: str) -> None:
        self._engine = engine
        self._chores = chores
        self._data_dir = data_dir
        self._installation = installation
        self._probe: asyncio.Task[bool] | None = None
        self._owners: dict[tuple[str, str], tuple[int, int]] = {}

    async def create(self, name: str, *, lower: Sequence[Path], upper: Path, labels: Mapping[str, str]) -> str:
        """See `Executor.create_view`."""
        layers = await asyncio.to_thread(_needed, lower)
        overlay = await self.can_overlay()
        if overlay:
            work = upper.parent / "work"
            await asyncio.to_thread(_make_folders, upper, work)
            options = overlay_options(layers, upper, work)
        else:
            options = {"type": "none", "device": str(upper), "o": "bind"}
        existing = await self._volume(name)
        if existing is not None and not self._owns(existing):
            raise StageError(f"a volume named {name} exists, and is not this installation's")
        if existing is not None and existing.get("Options") != options:
            await self.remove(name)
            existing = None
        if not overlay:
            await self._copy(layers, upper)
        if existing is None:
            owner = owned(labels, self._installation, "view")
            await self._engine.ask(self._engine.api.create_volume, name, driver_opts=options, labels=owner)
        return name

    async def remove(self, name: str) -> None:
        """See `Executor.remove_view`; a volume of another installation stays."""
        volume = await self._volume(name)
        if volume is None or not self._owns(volume):
            return
        try:
            await self._engine.ask(self._engine.api.remove_volume, name)
        except EngineError as error:
            if error.status == 409:
                raise StageError(f"the view {name} is still used by a container: {error.message}") from error
            if error.status != 404:
                raise

    async def own(self, name: str, user: str, image_id: str) -> None:
        """See `Executor.own_view`. What belongs to `user` already is left: to change a file's owner is to copy it."""
        uid, gid = await self._owner(user, image_id)
        command = ["/bin/sh", "-c", _OWN, "sh", str(uid), str(gid)]
        await self._chores.run(command, [Mount(name, "/view")])

    async def copy(self, name: str, target: Path) -> None:
        """See `Executor.copy_view`. The copy counts as a complete upper folder of a view."""
        complete = target.parent / _COMPLETE
        await self.remove_paths([complete, target])  # the marker too: half a copy must not count
        await asyncio.to_thread(_make_folders, target)
        await self._chores.run(
            ["/bin/cp", "-a", "/view/.", "/target/"], [Mount(name, "/view"), Mount(str(target), "/target")]
        )
        await asyncio.to_thread(complete.touch)

    async def can_overlay(self) -> bool:
        """Whether this host mounts overlays in the data directory; tried once until the host starts anew."""
        if self._probe is None or (self._probe.done() and (self._probe.cancelled() or self._probe.exception())):
            self._probe = asyncio.create_task(self._try_overlay())
        return await asyncio.shield(self._probe)

    async def close(self) -> None:
        """Waits for a trial that is under way, so that it leaves nothing behind."""
        if self._probe is not None:
            await asyncio.wait([self._probe])

    async def remove_paths(self, paths: Sequence[Path]) -> None:
        """See `Executor.remove_paths`."""
        for path in paths:
            self._check_below(path)
        stubborn = await asyncio.to_thread(_delete, paths)
        if not stubborn:
            return
        parents = sorted({path.parent for path in stubborn})
        mounts = [Mount(str(parent), f"/{number}") for number, parent in enumerate(parents)]
        inside = [f"/{parents.index(path.parent)}/{path.name}" for path in stubborn]
        await self._chores.run(["/bin/rm", "-rf", "--", *inside], mounts)

    async def sweep(self) -> None:
        """Removes what a killed agent's trials left."""
        left = await asyncio.to_thread(lambda: list(self._data_dir.glob(f"{_TRIAL}*")))
        for folder in left:
            await self.remove(self._trial_volume(folder))
        await self.remove_paths(left)

    async def _try_overlay(self) -> bool:
        tried = self._data_dir / _TRIED
        where = f"{_BOOT.read_text().strip()} {self._data_dir.stat().st_dev} {self._engine.id}"
        if tried.exists() and tried.read_text(encoding="utf-8") == where:
            return True
        works = await self._mount_overlay()
        if works:
            with contextlib.suppress(OSError):  # a full disk: then the next agent tries again
                tried.write_text(where, encoding="utf-8")
        return works

    async def _mount_overlay(self) -> bool:
        folder = self._data_dir / f"{_TRIAL}{secrets.token_hex(4)}"
        lower, upper, work = folder / "lower", folder / "upper", folder / "work"
        name = self._trial_volume(folder)
        try:
            await asyncio.to_thread(_make_folders, lower, upper, work)
            (lower / "read").touch()
            await self._engine.ask(
                self._engine.api.create_volume,
                name,
                driver_opts=overlay_options([lower], upper, work),
                labels=owned({}, self._installation, "view"),
            )
            # `rm` leaves a whiteout, which some file systems cannot hold.
            command = ["/bin/sh", "-ec", "cat /view/read; rm /view/read; : >/view/written"]
            await self._chores.run(command, [Mount(name, "/view")])
            return (upper / "written").exists()
        except StageError:
            return False
        finally:
            await self.remove(name)
            await self.remove_paths([folder])

    def _trial_volume(self, folder: Path) -> str:
        return f"seamless-{self._installation}-{folder.name}"

    def _check_below(self, path: Path) -> None:
        data_dir = self._data_dir.resolve()
        real = path.parent.resolve() / path.name  # the last part may be a link: it goes, and not what it points to
        if path.name == ".." or data_dir not in real.parents:
            raise StageError(f"{path} is not below the data directory {data_dir}, and stays")

    async def _volume(self, name: str) -> Mapping[str, Any] | None:
        try:
            volume: Mapping[str, Any] = await self._engine.ask(self._engine.api.inspect_volume, name)
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return volume

    def _owns(self, volume: Mapping[str, Any]) -> bool:
        return (volume.get("Labels") or {}).get(LABEL_INSTALLATION) == self._installation

    async def _copy(self, layers: Sequence[Path], upper: Path) -> None:
        complete = upper.parent / _COMPLETE
        if await asyncio.to_thread(complete.exists):
            return
        await self.remove_paths([upper])  # half a copy, if the agent was killed in the middle of it
        await asyncio.to_thread(_make_folders, upper)
        sources = [f"/{number}" for number in reversed(range(len(layers)))]  # the first layer is copied last
        mounts = [Mount(str(layer), f"/{number}", read_only=True) for number, layer in enumerate(layers)]
        await self._chores.run(["/bin/sh", "-ec", _COPY, "sh", *sources], [*mounts, Mount(str(upper), "/upper")])
        await asyncio.to_thread(complete.touch)

    async def _owner(self, user: str, image_id: str) -> tuple[int, int]:
        """The numbers of `user`, found the way the engine does: by whom a file of a container belongs to."""
        if (image_id, user) not in self._owners:
            folder = self._data_dir / f"{_TRIAL}{secrets.token_hex(4)}"
            await asyncio.to_thread(_make_folders, folder)
            folder.chmod(0o777)  # the data directory above it is closed to everybody else
            try:
                command = ["/bin/sh", "-c", ": >/probe/file"]
                await self._chores.run(command, [Mount(str(folder), "/probe")], image=image_id, user=user)
                made = (folder / "file").stat()
                self._owners[image_id, user] = made.st_uid, made.st_gid
            finally:
                await self.remove_paths([folder])
        return self._owners[image_id, user]


def check_data_dir(data_dir: Path) -> None:
    """Raises ConfigError for a path that cannot stand in an overlay's mount options."""
    if bad := [sign for sign in ',:\\"\n' if sign in str(data_dir)]:
        raise ConfigError(
            f"the data directory {str(data_dir)!r} contains {bad[0]!r}, which cannot stand in a mount's options",
            hint="choose another agent.data_dir, without commas, colons, quotes and backslashes",
        )


def overlay_options(lower: Sequence[Path], upper: Path, work: Path) -> dict[str, str]:
    """The `local` driver's options; the first of `lower` shadows the next."""
    layers = ":".join(str(layer) for layer in lower)
    return {"type": "overlay", "device": "overlay", "o": f"lowerdir={layers},upperdir={upper},workdir={work}"}


def _needed(lower: Sequence[Path]) -> list[Path]:
    """Up to the first layer that is a whole copy: what its view deleted must not show through from below."""
    layers: list[Path] = []
    for layer in lower:
        layers.append(layer)
        if (layer.parent / _COMPLETE).exists():
            break
    return layers


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o755)  # it is what users in containers see as the workspace, whatever the agent's umask


def _delete(paths: Sequence[Path]) -> list[Path]:
    """Deletes what this process may; returns those of `paths` that are still there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return [path for path in paths if os.path.lexists(path)]
