"""What everything shares: the nouns of the pipeline as values. No I/O, no third-party import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from seamless.transitions import DeploymentState, RunEvent, RunState, StageState


class StageName(StrEnum):
    """In pipeline order."""

    PREPARE = "prepare"
    CODE_QUALITY = "code_quality"
    UNIT_TEST = "unit_test"
    BUILD = "build"
    INTEGRATION_TEST = "integration_test"
    DEPLOY_STAGING = "deploy_staging"
    DEPLOY_PRODUCTION = "deploy_production"


COMMAND_STAGES: Final = (StageName.PREPARE, StageName.CODE_QUALITY, StageName.UNIT_TEST)
"""Those that run commands of the service's, in a workspace that a shell can look into."""

NEEDS: Final[Mapping[StageName, tuple[StageName, ...]]] = {
    StageName.PREPARE: (),
    StageName.CODE_QUALITY: (StageName.PREPARE,),
    StageName.UNIT_TEST: (StageName.PREPARE,),
    StageName.BUILD: (StageName.PREPARE,),
    StageName.INTEGRATION_TEST: (StageName.CODE_QUALITY, StageName.UNIT_TEST, StageName.BUILD),
    StageName.DEPLOY_STAGING: (StageName.INTEGRATION_TEST,),
    StageName.DEPLOY_PRODUCTION: (StageName.INTEGRATION_TEST, StageName.DEPLOY_STAGING),
}
"""The graph. A stage that is not part of a run is not waited for."""


class Trigger(StrEnum):
    MAIN = "main"
    PR_OPEN = "pr_open"
    PR_SYNC = "pr_sync"
    MANUAL = "manual"
    ROLLBACK = "rollback"
    PROMOTE = "promote"


class Environment(StrEnum):
    STAGING = "staging"
    PRODUCTION = "production"


DEPLOY_STAGE: Final = {
    Environment.STAGING: StageName.DEPLOY_STAGING,
    Environment.PRODUCTION: StageName.DEPLOY_PRODUCTION,
}
STAGE_ENVIRONMENT: Final = {stage: environment for environment, stage in DEPLOY_STAGE.items()}


class Trust(StrEnum):
    """What a run's source may see: DESIGN's table of secrets and caches."""

    TRUSTED = "trusted"  # main, manual on the branch, rollback, promote
    REPOSITORY = "repository"  # a pull request from the same repository, manual on another ref
    UNTRUSTED = "untrusted"  # a fork's pull request, --local


class DigestKind(StrEnum):
    """The two kinds of digest are never mixed: one names a manifest in a registry, one an image of this engine."""

    MANIFEST = "manifest"
    IMAGE_ID = "image_id"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by content. `repository` (no tag) is set exactly when `kind` is MANIFEST."""

    digest: str  # "sha256:<64 hex>"
    kind: DigestKind
    repository: str | None = None

    @property
    def pullable(self) -> str:
        """What `docker run` takes: `repo@sha256:…` for a manifest, the bare id for an image of the engine."""
        return f"{self.repository}@{self.digest}" if self.kind is DigestKind.MANIFEST else self.digest


@dataclass(frozen=True, slots=True)
class Clock:
    """Time spent, on a clock that neither suspending nor setting the time moves, and across restarts.

    `running_since` is CLOCK_MONOTONIC in seconds of the boot `boot`; None while nothing runs.
    """

    boot: str
    used_s: float = 0.0
    running_since: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one run. `attempt` counts from 1; it is 0 until the stage has started once."""

    run: str
    name: StageName
    state: StageState
    attempt: int
    interruptions: int
    reason: str | None
    exit_code: int | None
    started_at: datetime | None
    ended_at: datetime | None
    detail: Mapping[str, Any] = field(default_factory=dict)  # evidence: tests, peers, notes; shown to users
    journal: Mapping[str, Any] = field(default_factory=dict)  # effects of this attempt, recorded for recovery
    clock: Clock | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked for beside service and ref. Stored as JSON with the run."""

    checks: bool = False  # prepare, code_quality and unit_test only
    staging: bool = False  # of another ref: as far as staging
    rebuild: bool = False
    local: bool = False  # the tree was streamed by the client
    fork: bool = False  # a stranger's code, as far as is known
    gated: bool = False  # nothing of it starts before someone approves this very commit
    on_branch: bool = False  # the ref is the service's branch
    from_stage: StageName | None = None  # of a rerun: what is not downstream of it is kept
    environment: Environment | None = None  # of a rollback
    image: int | None = None  # of a rollback or a promotion: the image's id
    release: bool = False  # of a promotion during a hold
    allow_rewritten: bool = False


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Recorded when it is asked for; `event` (cancel or supersede) is applied when the work has ended."""

    event: RunEvent
    why: str
    by: str


@dataclass(frozen=True, slots=True)
class Approval:
    """A run's gate, before production or (`RunOptions.gated`) before anything, from the moment it waits. `by` is None
    until it is approved."""

    why: str
    expires_at: datetime
    production: str | None  # the digest that production ran when the approval was asked for
    rewritten: bool = False  # production's commit is not in this commit's history
    by: str | None = None
    allow_rewritten: bool = False
    release: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the pipeline for one service and commit."""

    id: str  # "<service>-<number>"
    service: str
    number: int
    trigger: Trigger
    trust: Trust
    ref: str  # "refs/heads/main", "refs/pull/17/head", LOCAL_REF
    commit: str  # full SHA; a pull request's head
    base: str | None  # for a pull request: the commit of the target branch that its head is merged onto
    subject: str
    author: str
    state: RunState
    reason: str | None
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    parameters: Mapping[str, Any]  # the service's resolved parameters (JSON) that this run began with
    options: RunOptions
    rerun_of: str | None
    cancel: CancelRequest | None = None
    approval: Approval | None = None
    clock: Clock | None = None
    stages: tuple[Stage, ...] = ()

    def stage(self, name: StageName) -> Stage | None:
        """This run's stage of that name, or None when it is not part of the run."""
        return next((stage for stage in self.stages if stage.name == name), None)


@dataclass(frozen=True, slots=True)
class Image:
    """What `build` made for one service and commit."""

    id: int
    service: str
    commit: str
    ref: ImageRef
    tag: str
    run: str
    build_key: str  # hash of the build parameters: same commit and key, same image
    trusted: bool
    checks_passed: bool  # the run that made it (or a later one that used it) passed all that precedes deploying
    built_at: datetime
    gone_at: datetime | None

    @property
    def deployable(self) -> bool:
        """May be deployed or rolled back to."""
        return self.trusted and self.checks_passed and self.gone_at is None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One attempt to put an image into an environment."""

    id: int
    service: str
    environment: Environment
    run: str
    trigger: Trigger
    commit: str
    image: ImageRef
    state: DeploymentState
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    journal: Mapping[str, Any] = field(default_factory=dict)  # the target's own steps
    detail: Mapping[str, Any] = field(default_factory=dict)  # "address", "gap_s", "explanation"


@dataclass(frozen=True, slots=True)
class Hold:
    """Production of a service opens only on someone's word."""

    service: str
    why: str
    by: str
    since: datetime
    commit: str | None  # what production was put back to, when a rollback set it
    released_by_run: str | None = None  # ends when that run's production deployment has succeeded


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked: the peer credential of the API's socket, or a part of the agent ("poller", "agent")."""

    name: str
    uid: int | None = None
    origin: str | None = None  # from where, as far as the host tells: `agent.origins`


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history. Ids grow without gaps in commit order; event streams resume from them."""

    id: int
    at: datetime
    kind: str  # "run", "stage", "deployment", "action", "service", "config", "message", "merge"
    service: str | None
    run: str | None
    stage: str | None
    name: str  # the transition's event, or the action
    from_state: str | None
    to_state: str | None
    reason: str | None
    actor: str | None
    origin: str | None = None  # of an action that somebody asked for: `Actor.origin`
    data: Mapping[str, Any] = field(default_factory=dict)


class NoticeKind(StrEnum):
    """What somebody may be told of."""

    FAILURE = "failure"  # a run failed
    RECOVERY = "recovery"  # the first run of the branch that succeeds after failures
    APPROVAL = "approval"  # a run waits for someone's word
    DEPLOYMENT = "deployment"  # an environment runs another commit
    PAUSE = "pause"  # a service's repository is closed to us, until somebody does something
    HOLD = "hold"  # production of a service was put on hold, or is not any more
    RUN = "run"  # every run's beginning and end
    STAGE = "stage"  # every stage's end


LOCAL_REF: Final = "local"
"""The ref of a run of a tree that the client streamed."""

SERVICE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def utc_now() -> datetime:
    """Now, with its zone."""
    return datetime.now(UTC)


def short(commit: str) -> str:
    """The seven characters that people see."""
    return commit[:7]
