"""What the agent needs of GitHub beyond git: the interface, and the values that go over it.

Made for the installation; each call names a repository, whose credentials' token it uses (a token
goes to the repository's own GitHub and nowhere else). Calls may be made side by side; those on one
repository take turns. Cancelling a call does not stop a request that is under way: whoever repeats
it looks first, or repeats something that may be repeated. These may: every reading call,
`set_status`, `merge` (pinned to the head), `delete_hook`, `ping_hook`.

What GitHub refuses or does not answer is a GitHubError: `problem` says whether it passes by itself,
`retry_after_s` when to ask again. After a rate limit no further request goes out for that token
until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from seamless.errors import RefusedError
from seamless.forges import RemoteProblem, RemoteUnavailableError, Repository


class GitHubError(RemoteUnavailableError):
    """GitHub cannot be reached, limits us, or refuses the token: `problem` says which."""

    code = "github"

    def __init__(
        self, message: str, problem: RemoteProblem, *, retry_after_s: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, problem, hint=hint)
        self.retry_after_s = retry_after_s


class MergeRefusedError(RefusedError):
    """GitHub will not merge this; `may_change` is true when it may, by itself or by somebody's doing, later."""

    def __init__(self, message: str, *, may_change: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.may_change = may_change


@dataclass(frozen=True, slots=True)
class HostedRepository:
    """A repository as GitHub knows it. The id stays the same when it is renamed or transferred."""

    id: int
    name: str  # "owner/name", as it is now
    default_branch: str


@dataclass(frozen=True, slots=True)
class PullRequest:
    number: int
    title: str
    author: str
    author_id: int
    head: str  # the head's commit
    head_ref: str  # its branch, without refs/heads/
    head_repository: int | None  # its repository's id; None: that is gone
    base_ref: str  # the target branch, without refs/heads/
    base_repository: int
    is_open: bool
    is_draft: bool
    is_merged: bool
    updated_at: datetime

    @property
    def is_fork(self) -> bool:
        """The head is in another repository, or in one that is gone."""
        return self.head_repository != self.base_repository

    @property
    def ref(self) -> str:
        return f"refs/pull/{self.number}/head"


@dataclass(frozen=True, slots=True)
class PullRequests:
    """All open pull requests. `etag` goes into the next question."""

    open: Sequence[PullRequest]
    etag: str | None


class StatusState(StrEnum):
    """GitHub's own words for a commit status."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    state: StatusState
    context: str  # "seamless/payment"; a commit shows the newest of each context
    description: str  # one line; GitHub takes 140 characters, more are cut off
    target_url: str | None = None


class MergeMethod(StrEnum):
    MERGE = "merge"
    SQUASH = "squash"
    REBASE = "rebase"


@dataclass(frozen=True, slots=True)
class Hook:
    id: int
    url: str
    events: tuple[str, ...]
    active: bool
    content_type: str  # "json" or "form"


@dataclass(frozen=True, slots=True)
class HookDelivery:
    id: int
    guid: str
    event: str
    delivered_at: datetime
    redelivery: bool
    status_code: int  # what the listener answered; 0: nothing
    status: str  # in words: "OK", "failed to connect to host"


class Permission(StrEnum):
    """What Seamless can need of a token, in the words that a person finds in GitHub's settings."""

    CONTENTS_READ = "Contents: read"
    PULL_REQUESTS_READ = "Pull requests: read"
    STATUSES_WRITE = "Commit statuses: write"
    CONTENTS_WRITE = "Contents: write"
    WEBHOOKS_WRITE = "Webhooks: write"


class Access(StrEnum):
    GRANTED = "granted"
    MISSING = "missing"
    NOT_CHECKED = "not_checked"  # nothing that only reads could tell; known at its first use


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """What a token may do with one repository. `scopes` only for a classic token."""

    login: str | None  # whose token it is
    kind: str  # "classic", "fine-grained", "app", "other"
    scopes: tuple[str, ...] | None
    expires_at: datetime | None
    access: Mapping[Permission, Access] = field(default_factory=dict)


class GitHub(Protocol):
    """Every method raises GitHubError, and UsageError for a repository that `hosts` is false for."""

    def hosts(self, url: str) -> bool:
        """Whether that repository is on this GitHub, by its URL alone. No I/O."""

    async def login_of(self, token: str) -> str | None:
        """Whose token it is, None for one that is no user's. Raises GitHubError (REFUSED) for one that is not good."""

    async def identify(self, repository: Repository) -> HostedRepository:
        """What is at that URL now; follows a rename."""

    async def open_pull_requests(self, repository: Repository, *, etag: str | None = None) -> PullRequests | None:
        """All of them, the last changed first; None when nothing has changed since the answer with that ETag."""

    async def pull_request(self, repository: Repository, number: int) -> PullRequest:
        """Raises GitHubError (NOT_FOUND) when there is none of that number."""

    async def set_status(self, repository: Repository, commit: str, status: CommitStatus) -> None:
        """Makes it the newest of its context. Raises CommitGoneError when the commit is not there, and UsageError for
        what GitHub does not take, such as the 1001st status of one commit and context."""

    async def merge(self, repository: Repository, number: int, head: str, method: MergeMethod) -> str:
        """Merges a pull request, if its head is still `head`, and it is open, no draft, from no fork, mergeable,
        and approved as the branch's rules ask. Returns the commit on the branch, also when it was merged before.
        Raises MergeRefusedError."""

    async def hooks(self, repository: Repository) -> list[Hook]: ...

    async def create_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> Hook:
        """A webhook that sends JSON; raises RefusedError when there is one with that URL."""

    async def update_hook(
        self, repository: Repository, hook: int, url: str, secret: str, events: Sequence[str]
    ) -> Hook:
        """Gives a webhook another secret, and these events."""

    async def delete_hook(self, repository: Repository, hook: int) -> None:
        """No error when it is gone."""

    async def ping_hook(self, repository: Repository, hook: int) -> None:
        """Has GitHub send a `ping` now."""

    async def deliveries(self, repository: Repository, hook: int) -> list[HookDelivery]:
        """The newest, newest first."""

    async def redeliver(self, repository: Repository, hook: int, delivery: int) -> None:
        """Has GitHub send a delivery of the last three days again, with its GUID. Raises RefusedError for one that it
        does not send any more."""

    async def access(self, repository: Repository) -> TokenAccess:
        """What the token may do there, found out without changing anything."""
