"""Where containers run: the interface that the stages and the agent use.

Order of calls for one container: `create` (optional, ahead of time), `start`, `wait`, `remove`;
`stop` at any time after `start`. All of them are idempotent by the spec's deterministic name, so
that an agent that was killed between any two calls can repeat them:

- `create` of a name that exists returns without an effect.
- `start` creates when necessary, starts a container that has never run, and leaves one that runs
  or ran alone (Docker would run an exited container a second time). It says which it was.
- `wait` returns at once for a container that has ended.
- `stop` and `remove` of a container that is gone do nothing.

A container or volume of the same name that belongs to another installation is never touched.

Cancelling a task that awaits one of these leaves the container as it is; the caller decides with
`stop` or `remove`, which come after what was cancelled in the middle. All methods may be called
concurrently; those for one name are carried out one after another, but for `wait`.

Output: a container with a `spool` writes both of its streams to that file (opened for append and
bind-mounted), never to a log driver. See docs/decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from seamless.errors import InterruptedStageError, StageError

LABEL_INSTALLATION: Final = "io.seamless.installation"
LABEL_RUN: Final = "io.seamless.run"
LABEL_STAGE: Final = "io.seamless.stage"
LABEL_ROLE: Final = "io.seamless.role"  # "stage", "network", "helper", "view", "compose", "deployment", "shell"

SPOOL_TARGET: Final = "/.seamless/out"


@dataclass(frozen=True, slots=True)
class Mount:
    """`source` is a volume's name or an absolute path of the host."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use. `memory` in bytes, swap not added."""

    cpus: float = 2.0
    memory: int = 2 * 1024**3
    pids: int = 2048


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container, wholly described. `script` is run by `sh -eu`, after an init, output to `spool`.

    It has a network namespace of its own from the pool kept ready: outbound only, no instance metadata. With `follows`,
    the name of a container that has ended when this one starts, it takes over that one's: each costs the engine more
    than a container does. Where it cannot, it has one of its own.
    """

    name: str
    image: str  # what `docker run` takes
    script: str
    spool: Path  # exists, mode 0622, in a 0700 folder of the agent
    workdir: str = "/workspace"
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)  # the installation's label is added
    limits: Limits = Limits()
    follows: str | None = None


@dataclass(frozen=True, slots=True)
class ShellSpec:
    """A container for a person at a terminal; `name` is used once."""

    name: str
    image: str
    workdir: str = "/workspace"
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()


class Started(StrEnum):
    """What `start` found."""

    NOW = "now"  # it started it
    RUNNING = "running"  # it ran already: adopted
    ENDED = "ended"  # it had run to its end


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """How a container ended. `by_engine`: the engine's own stop or death ended it, which is no verdict."""

    exit_code: int
    out_of_memory: bool = False
    by_engine: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A container, volume or network of this installation, for recovery and cleaning."""

    kind: str  # "container", "volume", "network"
    name: str
    labels: Mapping[str, str]
    running: bool = False


class ImageMissingError(StageError):
    """The image is not here and cannot be pulled; the message says why, in the engine's words."""


class ContainerGoneError(InterruptedStageError):
    """The named container does not exist (any more)."""


class Shell(Protocol):
    """An interactive shell with a terminal of its own. `read` and `write` may be awaited at the same time."""

    async def read(self) -> bytes:
        """What the terminal shows next; empty when the shell has ended."""

    async def write(self, data: bytes) -> None:
        """What the person types; does nothing when the shell has ended."""

    async def resize(self, rows: int, columns: int) -> None: ...

    async def close(self) -> None:
        """Ends the shell if it still runs, and removes its container."""


class Executor(Protocol):
    """Runs containers; see the module's text for order and idempotence.

    Every method raises `seamless.errors.EngineUnavailableError` when the engine does not answer (after
    bounded retries of what is safe to retry).
    """

    async def answers(self) -> bool:
        """Whether the engine answers now; known within seconds."""

    async def ensure_image(self, image: str) -> str:
        """Pulls `image` unless it is here; returns its id. Raises ImageMissingError."""

    async def create(self, spec: ContainerSpec) -> None: ...

    async def start(self, spec: ContainerSpec) -> Started:
        """Raises ImageMissingError, or StageError when it cannot start (e.g. the image has no shell)."""

    async def wait(self, name: str) -> ContainerExit:
        """Goes on while the engine is down, and says the truth when it is back. Raises ContainerGoneError."""

    async def stop(self, name: str, *, grace_s: float) -> None: ...

    async def remove(self, name: str) -> None:
        """With its anonymous volumes and its place in the network pool; kills it if it still runs."""

    async def exists(self, name: str) -> bool: ...

    async def find(self) -> Sequence[Found]:
        """Everything that carries this installation's label, but for what the executor keeps and removes
        by itself (network namespaces, helper containers).
        """

    async def create_view(self, name: str, *, lower: Sequence[Path], upper: Path, labels: Mapping[str, str]) -> str:
        """A copy-on-write view: a volume whose reads fall through `upper` to the `lower` folders (the
        first shadows the next), and whose writes go to `upper` (made here, with the work folder beside
        it). Returns the volume's name. Idempotent by name: an existing view with other folders is
        removed and made anew. Where the host cannot mount an overlay, the view is a copy.
        """

    async def views_are_live(self) -> bool:
        """Whether a view shows what its lower folders hold when a container starts with it, rather than when it was
        made: then it may be made while a lower folder is still being written."""

    async def remove_view(self, name: str) -> None:
        """Removes the volume; the folders stay (`remove_paths`)."""

    async def remove_paths(self, paths: Sequence[Path]) -> None:
        """Removes folders below the data directory, whoever owns what is in them."""

    async def own_view(self, name: str, user: str, image: str) -> None:
        """Makes `user` (as `image` knows it) the owner of a view's files."""

    async def copy_view(self, name: str, target: Path) -> None:
        """Makes `target` (a folder below the data directory, made anew) the whole of what the view shows."""

    async def remove_network(self, name: str) -> None:
        """Does nothing when it is gone, or is another installation's."""

    async def open_shell(self, spec: ShellSpec) -> Shell:
        """Raises ImageMissingError, or StageError when it cannot start."""
