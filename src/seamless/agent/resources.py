"""What the parts of the agent share: made once, in the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from seamless.agent.logs import LogStore
from seamless.agent.registries import Registries
from seamless.agent.room import Room
from seamless.agent.store import Store
from seamless.agent.workspaces import RunWorkspaces
from seamless.aws.sessions import Clouds
from seamless.config import Config, Git
from seamless.executors import Executor
from seamless.forges import Forge
from seamless.forges.github import GitHub
from seamless.targets import Target


@dataclass(frozen=True, slots=True)
class Resources:
    data_dir: Path
    installation: str
    config: Callable[[], Config]  # the one in force now
    store: Store
    logs: LogStore
    executor: Executor
    workspaces: RunWorkspaces
    forge: Forge
    github: GitHub
    clouds: Clouds
    registries: Registries
    room: Room
    targets: Mapping[str, Target]  # by the name that an environment's `target` has

    def github_of(self, url: str, git: Git) -> GitHub | None:
        """The GitHub that hosts this repository; None when it is elsewhere, or there is no token to ask with."""
        return self.github if git.token is not None and self.github.hosts(url) else None

    def spool(self, run: str, stage: str, attempt: int) -> Path:
        """Where an attempt's output goes before it is redacted; in a folder that only the agent enters."""
        return self.data_dir / "spool" / run / f"{stage}.{attempt}" / "out"

    def work(self, run: str) -> Path:
        """A run's folder for files that programs need; it goes with the run."""
        return self.data_dir / "work" / run

    def artifacts(self, run: str, stage: str) -> Path:
        """The archive of what a stage left for people: beside its log, and kept as long."""
        return self.data_dir / "logs" / run.rpartition("-")[0] / run / f"{stage}.artifacts.tar.gz"
