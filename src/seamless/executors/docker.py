"""The executor for the Docker Engine on this host.

DockerExecutor      the interface; one lock per container name, so that calls for it never overlap
├── Engine          the connection: threads, retries, errors
├── Images          pulls
├── NetworkPool     network namespaces kept ready, and whose they are
├── Views           copy-on-write workspaces, and removing what root made in them
│   └── Chores      short helper containers
└── DockerShell     an interactive shell
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from seamless.errors import EngineUnavailableError, InterruptedStageError, ProgrammingError, StageError
from seamless.executors import ContainerExit, ContainerGoneError, ContainerSpec, Found, ShellSpec, Started
from seamless.executors.chores import Chores
from seamless.executors.container_config import Body, owned, shell_body, stage_body
from seamless.executors.engine import Engine, EngineError
from seamless.executors.helper_image import check_helper_image, ensure_helper_image
from seamless.executors.images import Credentials, Images
from seamless.executors.inspection import ContainerState, verdict
from seamless.executors.inventory import ROLE_HELPER, ROLE_NETWORK, Inventory
from seamless.executors.network_pool import Joined, NetworkPool
from seamless.executors.shell import DockerShell
from seamless.executors.views import Views, check_data_dir

T = TypeVar("T")

_START_ATTEMPTS: Final = 3
_ENGINE_STOPS_ALL_WITHIN_S: Final = 1.0
_BACK_OFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class DockerExecutor:
    """Implements `seamless.executors.Executor`. One event loop, one per installation at a time."""

    def __init__(self, engine: Engine, images: Images, pool: NetworkPool, views: Views, *, installation: str) -> None:
        """Use `connect`."""
        self._engine = engine
        self._api = engine.api
        self._images = images
        self._pool = pool
        self._views = views
        self._inventory = Inventory(engine, installation)
        self._installation = installation
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._joined = Joined(pool)
        self._stopped: set[str] = set()  # ids of containers that `stop` has ended
        self._with_shell: set[str] = set()  # ids of images that have been seen to have /bin/sh

    @classmethod
    async def connect(
        cls,
        installation: str,
        data_dir: Path,
        helper_image: str = "",
        pool_size: int = 4,
        auth: Credentials = lambda registry: None,
    ) -> DockerExecutor:
        """Connects to the engine, clears what a killed agent's executor left of its own, and begins to fill the pool.

        `auth` gives user name and password for a registry's host. Raises ConfigError when the engine is on another
        host, the data directory's path cannot be mounted or there is no helper image; UnavailableError when no engine
        answers.
        """
        check_data_dir(data_dir)
        engine = await Engine.connect()
        try:
            images = Images(engine, auth)
            helper = await ensure_helper_image(engine, images, helper_image)
            prefix = f"seamless-{installation}-"
            network, chore = (owned({}, installation, role) for role in (ROLE_NETWORK, ROLE_HELPER))
            unused = data_dir / "networks"
            pool = NetworkPool(engine, image=helper, prefix=prefix, labels=network, size=pool_size, unused=unused)
            chores = Chores(engine, image=helper, prefix=prefix, labels=chore)
            if helper_image:
                await check_helper_image(chores, helper_image)
            views = Views(engine, chores, data_dir=data_dir, installation=installation)
            executor = cls(engine, images, pool, views, installation=installation)
            await executor._sweep()
        except BaseException:
            engine.close()
            raise
        pool.refill()
        return executor

    @property
    def docker_host(self) -> str:
        """The engine's address, "unix://…": what programs that use the same engine need as DOCKER_HOST."""
        return self._engine.host

    @property
    def ready_networks(self) -> int:
        """How many network namespaces are ready now."""
        return self._pool.ready

    async def close(self) -> None:
        """Removes the network namespaces that nobody used. Containers are left as they are."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._images.close()
        await self._views.close()
        await self._pool.close()
        self._engine.close()

    @property
    def engine_folder(self) -> Path:
        """Where the engine keeps images, containers and volumes."""
        return self._engine.folder

    async def answers(self) -> bool:
        return await self._engine.answers()

    async def ensure_image(self, image: str) -> str:
        return await self._images.ensure(image)

    async def create(self, spec: ContainerSpec) -> None:
        await self._with_image(spec, self._create)

    async def start(self, spec: ContainerSpec) -> Started:
        return await self._with_image(spec, self._start)

    async def wait(self, name: str) -> ContainerExit:
        attempt = 0
        while True:
            try:
                state = await self._find_own(name)
                if state is None or state.status == "removing":
                    raise ContainerGoneError(f"the container {name} is gone")
                if state.never_started:
                    raise ProgrammingError(f"the container {name} was never started: there is nothing to wait for")
                if state.over:
                    return verdict(state, await self._companion(state))
                attempt = 0
                # Its answer may be stale or cut off when the engine stops; only `inspect` is believed.
                await self._engine.exchange("POST", f"/containers/{state.id}/wait")
            except EngineUnavailableError:
                await asyncio.sleep(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
                attempt += 1

    async def stop(self, name: str, *, grace_s: float) -> None:
        await self._exclusively(name, self._stop(name, grace_s))

    async def remove(self, name: str) -> None:
        await self._exclusively(name, self._remove(name))

    async def exists(self, name: str) -> bool:
        return await self._find_own(name) is not None

    async def find(self) -> Sequence[Found]:
        return await self._inventory.find()

    async def create_view(self, name: str, *, lower: Sequence[Path], upper: Path, labels: Mapping[str, str]) -> str:
        return await self._exclusively(name, self._views.create(name, lower=lower, upper=upper, labels=labels))

    async def views_are_live(self) -> bool:
        return await self._views.can_overlay()

    async def remove_view(self, name: str) -> None:
        await self._exclusively(name, self._views.remove(name))

    async def remove_paths(self, paths: Sequence[Path]) -> None:
        await self._views.remove_paths(paths)

    async def own_view(self, name: str, user: str, image: str) -> None:
        await self._views.own(name, user, await self._images.ensure(image))

    async def copy_view(self, name: str, target: Path) -> None:
        await self._views.copy(name, target)

    async def remove_network(self, name: str) -> None:
        for network in await self._inventory.network_ids(name):
            await self._ignoring_absence(self._engine.ask(self._api.remove_network, network))

    async def open_shell(self, spec: ShellSpec) -> DockerShell:
        await self._images.ensure(spec.image)
        try:
            return await self._open_shell(spec)
        except _DeadNamespaceError:
            self._pool.renew()
            return await self._open_shell(spec)

    async def _open_shell(self, spec: ShellSpec) -> DockerShell:
        try:
            state = await self._exclusively(spec.name, self._create_shell(spec))
            streams = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
            reader, writer = await self._engine.upgrade(f"/containers/{state.id}/attach", streams)
            try:
                await self._exclusively(spec.name, self._start_created(spec.image, state))
            except BaseException:
                writer.close()
                raise
        except BaseException:
            await self.remove(spec.name)
            raise
        return DockerShell(self._engine, state.id, reader, writer, lambda: self.remove(spec.name))

    async def _with_image(self, spec: ContainerSpec, work: Callable[[ContainerSpec], Coroutine[Any, Any, T]]) -> T:
        """Does `work`; when the engine has not the image for it, pulls it and does it again."""
        try:
            return await self._exclusively(spec.name, work(spec))
        except _NoImageError:
            await self._images.ensure(spec.image)  # outside of the lock: a pull may take minutes
            return await self._exclusively(spec.name, work(spec))

    async def _exclusively(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end even if the caller is cancelled, and never beside other work on `name`.

        So a `stop` or `remove` that follows a cancelled `create` or `start` finds what that made.
        """

        async def locked() -> T:
            async with self._locks.setdefault(name, asyncio.Lock()):
                return await work

        task = asyncio.create_task(locked())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _inspect(self, name: str) -> ContainerState | None:
        try:
            return ContainerState.read(await self._engine.ask(self._api.inspect_container, name))
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    async def _find_own(self, name: str) -> ContainerState | None:
        """The container of that name, None when there is none or it is another installation's."""
        state = await self._inspect(name)
        if state is None or not state.belongs_to(self._installation):
            return None
        if state.namespace is not None:
            self._joined.note(name, state.namespace)
        return state

    async def _create(self, spec: ContainerSpec) -> None:
        if await self._find_own(spec.name) is not None:
            return
        volumes = [mount.source for mount in spec.mounts if not mount.source.startswith("/")]
        await asyncio.gather(*(self._check_volume(volume) for volume in volumes))
        labels = owned(spec.labels, self._installation, "stage")

        def body(network_mode: str) -> Body:
            return stage_body(spec, network_mode=network_mode, labels=labels, cpus=self._engine.cpus)

        await self._create_joined(spec.name, body, follows=spec.follows)

    async def _check_volume(self, volume: str) -> None:
        """The engine would make an empty volume in place of one that is missing: a wrong workspace."""
        try:
            await self._engine.ask(self._api.inspect_volume, volume)
        except EngineError as error:
            raise InterruptedStageError(f"the volume {volume} is gone") from error

    async def _create_joined(self, name: str, body: Callable[[str], Body], *, follows: str | None = None) -> None:
        inherited = None if follows is None else self._joined.of(follows)
        namespace = inherited or await self._pool.take()
        try:
            await self._engine.ask(self._api.create_container_from_config, body(f"container:{namespace}"), name)
        except EngineError as error:
            # An earlier attempt may have been heard and not answered: then the container is ours, and joined.
            existing = await self._inspect(name) if error.status == 409 else None
            if inherited is None and (existing is None or existing.namespace != namespace):
                self._pool.give_back(namespace)
            if existing is None:
                kind = _NoImageError if error.status == 404 else StageError
                raise kind(f"the container cannot be created: {error.message}") from error
            if not existing.belongs_to(self._installation):
                raise StageError(
                    f"a container named {name} exists, and is not this installation's", hint=f"docker rm -f {name}"
                ) from error
        else:
            self._joined.note(name, namespace)  # what follows it may be created before it is looked at

    async def _start(self, spec: ContainerSpec) -> Started:
        for delay_s in _BACK_OFF_S[:_START_ATTEMPTS]:
            state = await self._find_own(spec.name)
            if state is not None and not state.never_started:
                return Started.ENDED if state.over else Started.RUNNING
            try:
                if state is None:
                    await self._create(spec)
                    state = await self._find_own(spec.name)
                if state is None:
                    raise ContainerGoneError(f"the container {spec.name} was removed as soon as it was created")
                await self._start_created(spec.image, state)
                return Started.NOW
            except _DeadNamespaceError:
                await self._remove(spec.name)  # never started, so nothing is lost
                self._pool.renew()
                spec = dataclasses.replace(spec, follows=None)
            except EngineUnavailableError:
                await asyncio.sleep(delay_s)  # it may have started: look again
        raise EngineUnavailableError(f"the Docker Engine did not start the container {spec.name}")

    async def _start_created(self, image: str, state: ContainerState) -> None:
        await self._require_shell(image, state)
        try:
            await self._engine.call(self._api.start, state.id)
        except EngineError as error:
            if state.namespace is not None and state.namespace in error.message:
                raise _DeadNamespaceError("the engine was restarted, and the network made ahead is gone") from error
            raise StageError(f"the container cannot start: {error.message}") from error

    async def _require_shell(self, image: str, state: ContainerState) -> None:
        """Looked for beforehand: the init of a container without one starts well, and ends with 127 and not a word."""
        if state.image in self._with_shell:
            return
        query = {"path": "/bin/sh"}
        status = await self._engine.persist(
            lambda: self._engine.exchange("HEAD", f"/containers/{state.id}/archive", query)
        )
        if status == 404:
            raise StageError(
                f"the image {image} has no /bin/sh, which runs a stage's commands",
                hint="use a variant with a shell, such as -slim or -alpine in place of a distroless one",
            )
        self._with_shell.add(state.image)

    async def _companion(self, state: ContainerState) -> ContainerState | None:
        """The container whose namespace `state` joined. Looked at twice if the engine may be stopping both just now."""
        if state.namespace is None:
            return None
        companion = await self._inspect(state.namespace)
        suspicious = state.ended_from_outside and state.id not in self._stopped
        if companion is not None and not companion.over and suspicious:
            await asyncio.sleep(_ENGINE_STOPS_ALL_WITHIN_S)
            companion = await self._inspect(state.namespace)
        return companion

    async def _stop(self, name: str, grace_s: float) -> None:
        state = await self._find_own(name)
        if state is not None and not state.over:
            self._stopped.add(state.id)
            await self._ignoring_absence(self._engine.ask(self._api.stop, state.id, timeout=math.ceil(grace_s)))

    async def _remove(self, name: str) -> None:
        state = await self._find_own(name)
        await asyncio.gather(self._joined.leave(name), *([] if state is None else [self._remove_container(state.id)]))

    async def _remove_container(self, container: str) -> None:
        self._stopped.discard(container)
        try:
            await self._ignoring_absence(self._engine.ask(self._api.remove_container, container, v=True, force=True))
        except EngineError as error:
            if error.status != 409:  # another removal is at it
                raise
            await self._engine.exchange("POST", f"/containers/{container}/wait", {"condition": "removed"})

    async def _create_shell(self, spec: ShellSpec) -> ContainerState:
        labels = owned(spec.labels, self._installation, "shell")

        def body(network_mode: str) -> Body:
            return shell_body(spec, network_mode=network_mode, labels=labels, cpus=self._engine.cpus)

        await self._create_joined(spec.name, body)
        state = await self._find_own(spec.name)
        if state is None:
            raise ContainerGoneError(f"the container {spec.name} is gone")
        return state

    async def _sweep(self) -> None:
        """Takes over the namespaces that a killed agent's executor had ready, and removes what else it left."""
        left = await self._inventory.leftovers()
        adopted = self._pool.adopt({container for container, running in left.items() if running})
        await asyncio.gather(*(self._remove_container(container) for container in left if container not in adopted))
        await self._views.sweep()

    @staticmethod
    async def _ignoring_absence(request: Awaitable[object]) -> None:
        try:
            await request
        except EngineError as error:
            if error.status != 404:
                raise


class _NoImageError(StageError):
    """The engine cannot create a container, most likely for lack of its image."""


class _DeadNamespaceError(StageError):
    """The container that was to be joined is not running any more."""
