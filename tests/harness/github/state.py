"""What the fake GitHub knows: tokens, repositories with their pull requests, statuses and webhooks. No HTTP."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.repositories import Repository

_IDENTITY = {
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@github.com",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.com",
}


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Runs git in a repository of the fake; returns what it wrote."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **_IDENTITY}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass
class Token:
    """A classic token has scopes; a fine-grained one (None) has permissions: "contents", … -> "read" or "write"."""

    login: str = "seamless-bot"
    scopes: tuple[str, ...] | None = ("repo",)
    permissions: Mapping[str, str] = field(default_factory=dict)
    role: str = "admin"  # of its user in every repository: admin, push or pull
    expires_at: datetime | None = None


@dataclass
class FakePull:
    number: int
    title: str
    branch: str
    base: str
    author: str
    fork: int | None  # the id of the head's repository, None: the same as the base's
    head: str = ""
    is_draft: bool = False
    state: str = "open"
    merged_as: str | None = None
    mergeable_state: str | None = None  # None: found out
    reviews: list[tuple[str, str]] = field(default_factory=list)  # (who, APPROVED or CHANGES_REQUESTED)
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class FakeHook:
    id: int
    url: str
    secret: str
    events: list[str]
    content_type: str = "json"
    active: bool = True
    leads_to: str | None = None  # where deliveries really go, of a URL that has come to lead elsewhere
    deliveries: list[dict[str, Any]] = field(default_factory=list)  # newest first
    payloads: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)  # delivery -> guid, event, body


class FakeRepository:
    """A repository of the fake. `work` is a developer's clone; `push` is what a developer does."""

    _ids = itertools.count(1296269)

    def __init__(self, folder: Path, name: str) -> None:
        self.id = next(self._ids)
        self.name = name
        self.renamed_from: list[str] = []
        self.bare = folder / f"{self.id}.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare)], check=True)
        git(self.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(self.bare, "config", "uploadpack.hideRefs", "refs/merge-of-nobody")
        git(self.bare, "config", "http.receivepack", "true")
        git(self.bare, "config", "receive.hideRefs", "refs/pull")
        self.work = Repository(folder / f"work-{self.id}")
        self.statuses: dict[str, list[dict[str, Any]]] = {}  # commit -> newest first
        self.pulls: dict[int, FakePull] = {}
        self.hooks: dict[int, FakeHook] = {}
        self.required_approvals = 0
        self.merge_methods = {"merge", "squash", "rebase"}

    def push(self, files: Mapping[str, str | None], *, branch: str = "main", message: str = "a change") -> str:
        """Commits to the branch (from main, when it is new) and pushes; returns the commit. Tells no webhook."""
        known = self.head(branch)
        if known:
            self.work.git("fetch", "--quiet", str(self.bare), branch)
            self.work.git("checkout", "--quiet", "-B", branch, "FETCH_HEAD")
        elif branch != "main":
            self.work.git("checkout", "--quiet", "-B", branch, "main")
        commit = self.work.commit(files, message)
        self.work.git("push", "--quiet", "--force", str(self.bare), f"HEAD:refs/heads/{branch}")
        self.follow(branch)
        return commit

    def refs(self) -> dict[str, str]:
        """Branches and tags: full name -> what they name."""
        lines = git(self.bare, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
        return dict(line.split(" ", 1) for line in lines.splitlines())

    def head(self, branch: str) -> str:
        """The branch's commit, "" when there is none."""
        return git(self.bare, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)

    def has(self, commit: str) -> bool:
        return git(self.bare, "cat-file", "-t", commit, check=False) == "commit"

    def follow(self, branch: str) -> list[FakePull]:
        """Moves the open pull requests of this branch to its head, and returns them."""
        followed = [
            pull for pull in self.pulls.values() if pull.branch == branch and pull.fork is None and pull.state == "open"
        ]
        for pull in followed:
            self.move(pull, self.head(branch))
        return followed

    def move(self, pull: FakePull, head: str) -> None:
        """Gives the pull request another head."""
        pull.head = head
        latest = max(each.updated_at for each in (pull, *self.pulls.values()))
        pull.updated_at = max(datetime.now(UTC), latest + timedelta(seconds=1))  # it is told in whole seconds
        git(self.bare, "update-ref", f"refs/pull/{pull.number}/head", head)

    def open_pull(
        self,
        branch: str,
        title: str = "A change",
        *,
        base: str = "main",
        author: str = "ada",
        draft: bool = False,
        fork: FakeRepository | None = None,
    ) -> FakePull:
        if fork is not None:
            git(self.bare, "fetch", "--quiet", str(fork.bare), f"refs/heads/{branch}")
        head = self.head(branch) if fork is None else fork.head(branch)
        pull = FakePull(
            len(self.pulls) + 1, title, branch, base, author, None if fork is None else fork.id, is_draft=draft
        )
        self.pulls[pull.number] = pull
        self.move(pull, head)
        return pull

    def mergeable(self, pull: FakePull) -> bool:
        base = self.head(pull.base)
        return bool(git(self.bare, "merge-tree", "--write-tree", base, pull.head, check=False))

    def mergeable_state(self, pull: FakePull) -> str:
        """GitHub's word for whether it can be merged."""
        if pull.mergeable_state is not None:
            return pull.mergeable_state
        if pull.is_draft:
            return "draft"
        if not self.mergeable(pull):
            return "dirty"
        return "clean" if self.is_approved(pull) else "blocked"

    def is_approved(self, pull: FakePull) -> bool:
        last = dict(pull.reviews)
        approvals = sum(state == "APPROVED" for state in last.values())
        return approvals >= self.required_approvals and "CHANGES_REQUESTED" not in last.values()

    def merge(self, pull: FakePull, method: str) -> str:
        """Puts the pull request onto its base; returns the base's new commit."""
        base = self.head(pull.base)
        if method == "rebase":
            new = self._rebased(base, pull.head)
        else:
            tree = git(self.bare, "merge-tree", "--write-tree", base, pull.head)
            parents = ["-p", base, *(["-p", pull.head] if method == "merge" else [])]
            message = f"{pull.title} (#{pull.number})"
            new = git(self.bare, "commit-tree", tree, *parents, "-m", message)
        git(self.bare, "update-ref", f"refs/heads/{pull.base}", new, base)
        pull.state, pull.merged_as = "closed", new
        pull.updated_at = datetime.now(UTC)
        return new

    def _rebased(self, base: str, head: str) -> str:
        folder = Path(tempfile.mkdtemp(dir=self.bare.parent))
        try:
            git(folder, "clone", "--quiet", "--shared", "--no-checkout", str(self.bare), "clone")
            clone = folder / "clone"
            git(clone, "fetch", "--quiet", "origin", head)
            git(clone, "checkout", "--quiet", "--detach", head)
            git(clone, "rebase", "--quiet", base)
            new = git(clone, "rev-parse", "HEAD")
            git(self.bare, "fetch", "--quiet", str(clone), "HEAD")
            return new
        finally:
            shutil.rmtree(folder)
