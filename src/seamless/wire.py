"""The shapes of the HTTP API's JSON, shared by the agent that serves them and the client that reads them.

Times are ISO 8601 in UTC. Keys are always present; what is not known is null. docs/api.md lists the endpoints.
"""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import TypedDict

API_VERSION: Final = 1
"""Raised when a client of the version before could misread an answer; the client refuses another one."""
CONFIG_HEADER: Final = "Seamless-Config"
"""Of every answer while the agent's configuration file holds what cannot be used."""


class VersionJSON(TypedDict):
    """GET /v1/version: the handshake."""

    api: int
    version: str
    pid: int
    ready: bool
    config_file: str
    config_error: str | None  # why the file's newest content is not in force
    data_dir: str
    trouble: list[str]  # of its host: why it takes no new work


class StageJSON(TypedDict):
    name: str
    state: str
    attempt: int
    reason: str | None
    exit_code: int | None
    started_at: str | None
    ended_at: str | None
    waits_for: str | None  # what keeps it from starting, when it is next: "web-3, which deploys to staging"
    usual_s: float | None  # median time of its last successes, for a progress bar
    detail: dict[str, Any]  # evidence: "note", "tests", "peers", "image", "address", "explanation", "kept_from"


class CommitJSON(TypedDict):
    commit: str
    subject: str
    author: str
    committed_at: str


class ImageJSON(TypedDict):
    service: str
    commit: str
    digest: str
    ref: str  # what `docker run` takes
    tag: str
    built_at: str
    run: str
    deployable: bool
    environments: list[str]  # where it runs now
    subject: str  # of the commit
    author: str


class DeploymentJSON(TypedDict):
    """One attempt to put an image into an environment."""

    id: int
    service: str
    environment: str
    run: str
    trigger: str
    commit: str
    digest: str
    state: str
    reason: str | None
    created_at: str
    ended_at: str | None


class ApprovalJSON(TypedDict):
    """What an approval lets through."""

    run: str
    service: str
    lets_through: str  # "production", or "checks": a fork's commit, which sees no secrets and goes no further
    why: str  # "staging runs 9f3c2ab and is healthy", "a fork's commit", "on hold: …"
    production: CommitJSON | None
    staging: CommitJSON | None  # what staging runs now, if that is not this commit any more
    commits: list[CommitJSON]  # since production, newest first
    commits_known: bool  # False: production's commit is not an ancestor or not known
    image: ImageJSON | None
    tested_against: list[dict[str, Any]]  # {"compose_service", "service", "commit", "digest", "source"}
    task_definition: str | None  # the target's own difference, in words
    hold: HoldJSON | None
    expires_at: str


class HoldJSON(TypedDict):
    why: str
    by: str
    since: str
    commit: str | None


class RunJSON(TypedDict):
    id: str
    service: str
    number: int
    trigger: str
    trust: str
    commit: str
    ref: str
    subject: str
    author: str
    state: str
    reason: str | None
    requested_by: str
    rerun_of: str | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    cancel_requested: str | None  # why, while it is still ending
    stages: list[StageJSON]
    approval: ApprovalJSON | None  # while it waits
    merge: str | None  # what has come of auto_merge: "#7 merged as 1a2b3c4 (squash)", "waits: …", "not merged: …"


class ReleaseJSON(TypedDict):
    """What an environment runs."""

    commit: str
    digest: str
    run: str
    deployed_at: str
    address: str | None
    state: str  # of the deployment that put it there: success, unknown, …
    drift: str | None  # what the far end runs instead, and who put it there; or why that cannot be read


class HeadJSON(TypedDict):
    commit: str
    seen_at: str


class RedJSON(TypedDict):
    since: str
    run: str
    stage: str | None
    reason: str | None


class ServiceStatusJSON(TypedDict):
    """One row of the fleet. `head` is the branch's newest known commit."""

    service: str
    head: HeadJSON | None
    staging: ReleaseJSON | None
    production: ReleaseJSON | None
    waiting: RunJSON | None
    running: list[RunJSON]
    last: RunJSON | None  # the newest ended run
    red_since: RedJSON | None  # since when the branch has not passed
    hold: HoldJSON | None
    problem: str | None  # e.g. the repository cannot be reached


class EventJSON(TypedDict):
    id: int
    at: str
    kind: str
    service: str | None
    run: str | None
    stage: str | None
    name: str
    from_state: str | None
    to_state: str | None
    reason: str | None
    actor: str | None
    origin: str | None  # of an action that somebody asked for: "sshd[4711] from 10.0.0.7", as far as the host tells
    data: dict[str, Any]


class ServiceJSON(TypedDict):
    name: str
    repo: str
    path: str
    branch: str
    triggers: list[str]


class ErrorBody(TypedDict):
    code: str
    message: str
    hint: str | None
    exit_code: int


class ErrorJSON(TypedDict):
    """Every answer that is not 2xx."""

    error: ErrorBody


class RunRequest(TypedDict, total=False):
    """POST /v1/services/{service}/runs"""

    ref: str | None  # default: the service's branch
    pull_request: int | None  # its number, instead of a ref
    checks: bool
    staging: bool
    rebuild: bool


class RerunRequest(TypedDict, total=False):
    from_stage: str | None


class ApproveRequest(TypedDict, total=False):
    release: bool
    allow_rewritten: bool


class ReasonRequest(TypedDict):
    why: str


class RollbackRequest(TypedDict, total=False):
    to: str
    service: str | None  # default: found by the commit
    environment: str  # default: production


class PromoteRequest(TypedDict, total=False):
    release: bool
    allow_rewritten: bool


class FindingJSON(TypedDict):
    """What a look at something found; see `findings`."""

    subject: str
    level: str  # "ok", "warning", "error", "not_checked"
    what: str
    mend: str | None


class NotifyTestRequest(TypedDict, total=False):
    """POST /v1/notify/test"""

    name: str | None  # of a [notify.NAME]; default: all


class GarbageJSON(TypedDict):
    """What was removed, or would be."""

    kind: str  # "image", "log", "run", "checkout", "mirror", "cache", "workspace"; "packed": a log takes less room now
    name: str
    why: str
    bytes: int | None
    kept: str | None  # why it could not be removed
