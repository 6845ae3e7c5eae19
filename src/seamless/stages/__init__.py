"""What each stage does. `agent.stage_runner` calls the function that performs a stage.

A stage is an async function of a `StageContext`. It returns a `StageResult`, or raises StageError
(the verdict is failure) or InterruptedStageError (its work was lost; the table says what follows).
When the agent was killed during an attempt, the next agent calls the same function for the same
attempt again, with `resumed` set and the journal as it was: what the attempt has already done must
be found, not done twice. Being cancelled means: the run was cancelled, or the agent stops, which
the stage need not tell apart. Containers are left to the caller; programs are killed by their call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from seamless.config import Parameters
from seamless.executors import Executor, Mount
from seamless.model import Run, Stage, StageName

WORKSPACE: Final = "/workspace"
"""Where the checkout is in every stage's container."""

CHECKS: Final = (StageName.CODE_QUALITY, StageName.UNIT_TEST)
"""The stages that run a command, side by side, over what prepare left."""


class Journal(Protocol):
    """What this attempt has done so far, for the agent that may have to go on with it."""

    def get(self, key: str) -> Any:
        """What was recorded under `key`, else None."""

    async def record(self, **entries: Any) -> None:
        """Durable when it returns. The values are JSON."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A pristine tree of the run's commit: read it, never write to it."""

    files: Path
    changed: int  # files written to make it, 0 when it was there
    kept: bool  # a kept tree was brought up to date, rather than made


@dataclass(frozen=True, slots=True)
class Workspace:
    """A stage attempt's own writable view, as mounts for its container."""

    mounts: tuple[Mount, ...]
    upper: Path  # what the stage has written lies here, whoever owns it
    empty_caches: int  # caches that had nothing in them


class Workspaces(Protocol):
    """The run's code. Idempotent for the same attempt."""

    async def claim(self, run: Run, attempt: int, spool: Path) -> Callable[[], Awaitable[Checkout]]:
        """Fetches the run's commit for `prepare`, and claims a tree for it; git's words go to `spool`.

        Call what it returns, once, to check the commit out there. `open` may be called before.
        """

    async def checked_out(self, run: Run) -> Path:
        """The tree that prepare checked out."""

    async def open(self, run: Run, stage: Stage, parameters: Parameters, image: str) -> Workspace:
        """A view of its own for an attempt, over the tree and over what prepare wrote."""

    async def checkout_other(self, run: Run, stage: Stage, url: str, branch: str, spool: Path) -> Checkout:
        """The head of a branch of another repository, for an integration test that lives there."""


@dataclass(frozen=True, slots=True)
class StageContext:
    """All that a stage has to do with."""

    run: Run
    stage: Stage
    parameters: Parameters
    resumed: bool
    spool: Path
    journal: Journal
    line: Callable[[str], Awaitable[None]]  # a line of the agent's own in the stage's log
    workspace_ready: Callable[[], None]  # prepare says: from now on the next stages' containers can be made
    installation: str
    executor: Executor
    workspaces: Workspaces
    secrets: Mapping[str, str]  # by name, as far as the run's trust lets it see them
    redact: Callable[[Any], Any]  # masks the secrets in texts, lists and tables of texts
    ca_bundle: Path | None
    work: Path  # a folder of the run's own, for files that programs need
    artifacts: Path  # the archive of what it leaves for people

    @property
    def container_name(self) -> str:
        """The deterministic name of this attempt's container."""
        return self._container_of(self.stage)

    @property
    def follows(self) -> str | None:
        """prepare's container, for the first of the checks that there is; the other one runs beside it."""
        first = next((name for name in CHECKS if not skip_reason(name, self.parameters)), None)
        prepare = self.run.stage(StageName.PREPARE)
        return self._container_of(prepare) if prepare is not None and self.stage.name is first else None

    def _container_of(self, stage: Stage) -> str:
        return f"seamless-{self.installation}-{self.run.id}-{stage.name}-{stage.attempt}"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What is kept of a stage that succeeded."""

    detail: Mapping[str, Any] = field(default_factory=dict)
    also: Callable[[], Awaitable[None]] | None = None  # stored in the transaction that says so


def skip_reason(name: StageName, parameters: Parameters) -> str | None:
    """Why a stage has nothing to do for this service; None when it has."""
    match name:
        case StageName.CODE_QUALITY if not parameters.code_quality:
            return "no code_quality command is set"
        case StageName.UNIT_TEST if not parameters.unit_test:
            return "no unit_test command is set"
        case StageName.INTEGRATION_TEST if parameters.integration_test is None:
            return "no integration_test is set"
        case _:
            return None
