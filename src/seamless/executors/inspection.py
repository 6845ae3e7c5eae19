"""What the engine says about a container, and what that means: pure reading, no calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from seamless.executors import LABEL_INSTALLATION, ContainerExit

_NEVER_STARTED: Final = frozenset({"created"})
_OVER: Final = frozenset({"exited", "dead"})

# TERM, KILL, and what the engine writes down when it finds, after a reboot, that a container is gone.
_ENDED_FROM_OUTSIDE: Final = frozenset({143, 137, 255})
# The engine stops all containers at once; a stage ends at the same time as its companion, or in the grace after it.
_SAME_MOMENT: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One answer of `inspect`. `namespace` is the id of the container whose network this one joined."""

    id: str
    image: str  # the image's id
    labels: Mapping[str, str]
    status: str
    exit_code: int
    out_of_memory: bool
    error: str | None
    finished_at: datetime | None
    namespace: str | None

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> ContainerState:
        state, mode = answer["State"], str(answer["HostConfig"].get("NetworkMode", ""))
        return cls(
            id=answer["Id"],
            image=answer["Image"],
            labels=answer["Config"].get("Labels") or {},
            status=state["Status"],
            exit_code=state["ExitCode"],
            out_of_memory=bool(state.get("OOMKilled")),
            error=state.get("Error") or None,
            finished_at=parse_time(state.get("FinishedAt", "")),
            namespace=joined_namespace(mode),
        )

    @property
    def never_started(self) -> bool:
        return self.status in _NEVER_STARTED

    @property
    def over(self) -> bool:
        return self.status in _OVER

    @property
    def ended_from_outside(self) -> bool:
        """Judged by the exit code alone, which a script may also give by itself."""
        return self.exit_code in _ENDED_FROM_OUTSIDE and not self.out_of_memory

    def belongs_to(self, installation: str) -> bool:
        return self.labels.get(LABEL_INSTALLATION) == installation


def joined_namespace(network_mode: str) -> str | None:
    """The container's id in `container:<id>`."""
    kind, _, container = network_mode.partition(":")
    return container if kind == "container" else None


def parse_time(text: str) -> datetime | None:
    """The engine's time stamp (nanoseconds, UTC); None for the year 1, which means never."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.year > 1 else None


def verdict(stage: ContainerState, companion: ContainerState | None) -> ContainerExit:
    """How a container that is over has ended.

    An out-of-memory kill that the script survived is none: only a failed container is "out of memory".
    """
    by_engine = ended_by_engine(stage, companion)
    return ContainerExit(
        exit_code=stage.exit_code,
        out_of_memory=stage.out_of_memory and stage.exit_code != 0 and not by_engine,
        by_engine=by_engine,
        error=stage.error,
    )


def ended_by_engine(stage: ContainerState, companion: ContainerState | None) -> bool:
    """Whether the engine's stop or death ended `stage`, so that its exit code is no verdict.

    The engine does not tell, but the companion (the container that holds the network namespace) does,
    even when the agent was dead as well: nothing else ends it while its stage exists. A stage that
    ended before it, ended by itself; one that ended with it or later was stopped too, or went on
    without a network, and whatever exit code it has (a trap may have set 0) proves nothing.

    When the companion is gone (somebody pruned what the engine had stopped), the exit code has to do.
    """
    if companion is None:
        return stage.ended_from_outside
    if not companion.over:
        return False
    if stage.finished_at is None or companion.finished_at is None:
        return True
    return stage.finished_at >= companion.finished_at - _SAME_MOMENT
