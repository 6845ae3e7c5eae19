"""An executor without an engine, for tests of what calls one: each container ends as the test has written down."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seamless.executors import (
    ContainerExit,
    ContainerGoneError,
    ContainerSpec,
    Found,
    ImageMissingError,
    Shell,
    ShellSpec,
    Started,
)


@dataclass
class Scene:
    """What a container does: writes `output`, runs for `delay_s` (None: until it is stopped), ends with `ends`."""

    ends: ContainerExit = field(default_factory=lambda: ContainerExit(0))
    delay_s: float | None = 0.0
    output: str = ""


@dataclass
class _Container:
    spec: ContainerSpec
    ended: asyncio.Future[ContainerExit] | None = None


@dataclass
class ScriptedExecutor:
    """Implements `seamless.executors.Executor` with its rules of idempotence.

    `scenes` is looked up by the container's name; any other container succeeds at once. `missing` images cannot be
    had. `calls` tells in order what was asked: ("start", name) and so on.
    """

    scenes: Mapping[str, Scene] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._containers: dict[str, _Container] = {}
        self._views: dict[str, Found] = {}

    async def answers(self) -> bool:
        return True

    async def ensure_image(self, image: str) -> str:
        if image in self.missing:
            raise ImageMissingError(f"the image {image} cannot be had: it is missing in the script")
        return f"sha256:{image}"

    async def create(self, spec: ContainerSpec) -> None:
        self.calls.append(("create", spec.name))
        await self.ensure_image(spec.image)
        self._containers.setdefault(spec.name, _Container(spec))

    async def start(self, spec: ContainerSpec) -> Started:
        await self.create(spec)
        self.calls[-1] = ("start", spec.name)
        container = self._containers[spec.name]
        if container.ended is not None:
            return Started.ENDED if container.ended.done() else Started.RUNNING
        scene = self.scenes.get(spec.name, Scene())
        with open(spec.spool, "a", encoding="utf-8") as spool:
            spool.write(scene.output)
        loop = asyncio.get_running_loop()
        container.ended = loop.create_future()
        if scene.delay_s is not None:
            loop.call_later(scene.delay_s, self._end, spec.name, scene.ends)
        return Started.NOW

    async def wait(self, name: str) -> ContainerExit:
        container = self._containers.get(name)
        if container is None or container.ended is None:
            raise ContainerGoneError(f"the container {name} is gone")
        return await asyncio.shield(container.ended)

    async def stop(self, name: str, *, grace_s: float) -> None:
        self.calls.append(("stop", name))
        self._end(name, ContainerExit(143))

    async def remove(self, name: str) -> None:
        self.calls.append(("remove", name))
        self._end(name, ContainerExit(137))
        self._containers.pop(name, None)

    async def exists(self, name: str) -> bool:
        return name in self._containers

    async def find(self) -> Sequence[Found]:
        containers = [
            Found("container", name, each.spec.labels, running=each.ended is not None and not each.ended.done())
            for name, each in self._containers.items()
        ]
        return [*containers, *self._views.values()]

    async def create_view(self, name: str, *, lower: Sequence[Path], upper: Path, labels: Mapping[str, str]) -> str:
        upper.mkdir(parents=True, exist_ok=True)
        self._views[name] = Found("volume", name, labels)
        return name

    async def views_are_live(self) -> bool:
        return True

    async def remove_view(self, name: str) -> None:
        self._views.pop(name, None)

    async def remove_paths(self, paths: Sequence[Path]) -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)

    async def own_view(self, name: str, user: str, image: str) -> None: ...

    async def copy_view(self, name: str, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)

    async def remove_network(self, name: str) -> None: ...

    async def open_shell(self, spec: ShellSpec) -> Shell:
        raise ImageMissingError("there is no shell in the script")

    def _end(self, name: str, ends: ContainerExit) -> None:
        container = self._containers.get(name)
        if container is not None and container.ended is not None and not container.ended.done():
            container.ended.set_result(ends)
