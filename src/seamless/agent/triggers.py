"""Which changes of a repository start which runs: pure functions over what was seen before and what is there now.

It does not matter how a change came to be known (a poll, a webhook, a look after days offline): each service has its
own memory of refs and open pull requests, and what differs from it is news, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from seamless.agent.store import KnownPullRequest
from seamless.config import Parameters
from seamless.forges.github import PullRequest
from seamless.model import Trigger, short

if TYPE_CHECKING:
    from pathspec import PathSpec
    from pathspec.pattern import Pattern

_SKIP: Final = re.compile(r"\[(?:skip ci|ci skip)\]", re.IGNORECASE)
_PULL_REQUEST_TRIGGERS: Final = frozenset({Trigger.PR_OPEN, Trigger.PR_SYNC})


# -- branches and tags


@dataclass(frozen=True, slots=True)
class RefChange:
    """`before` is None for a ref that was not there."""

    ref: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class RefNews:
    """`noted` are refs (with their commits) that start nothing, because nobody had looked for their like before."""

    changed: tuple[RefChange, ...]
    noted: Mapping[str, str]


def branch_of(parameters: Parameters) -> str:
    """The full name of the branch that leads to production."""
    return f"refs/heads/{parameters.branch}"


def patterns_of(parameters: Parameters) -> tuple[str, ...]:
    """The branches and tags that a service watches, as `git ls-remote` and `fnmatch` understand them."""
    return (branch_of(parameters), *parameters.refs)


def is_watched(ref: str, patterns: Iterable[str]) -> bool:
    """Whether a full ref name matches one of the patterns."""
    return any(fnmatchcase(ref, pattern) for pattern in patterns)


def watches_pull_requests(parameters: Parameters) -> bool:
    return not _PULL_REQUEST_TRIGGERS.isdisjoint(parameters.triggers)


def ref_news(
    listed: Mapping[str, str], known: Mapping[str, str], patterns: Sequence[str], watched: Set[str]
) -> RefNews:
    """What is new to a service. `listed` and `known`: full name -> commit. `watched` are the patterns that were looked
    for before: what matches only others is noted, so that a new service or pattern starts nothing by itself."""
    changed: list[RefChange] = []
    noted: dict[str, str] = {}
    for ref, commit in sorted(listed.items()):
        matching = [pattern for pattern in patterns if fnmatchcase(ref, pattern)]
        before = known.get(ref)
        if not matching or before == commit:
            continue
        if before is None and watched.isdisjoint(matching):
            noted[ref] = commit
        else:
            changed.append(RefChange(ref, before, commit))
    return RefNews(tuple(changed), noted)


# -- pull requests


class PullRequestEvent(StrEnum):
    OPENED = "opened"  # or opened again, or ready for review
    SYNCHRONIZED = "synchronized"
    CLOSED = "closed"  # or it wants to be merged somewhere else
    NOTED = "noted"  # it is another than was known, which starts nothing


@dataclass(frozen=True, slots=True)
class PullRequestChange:
    """`now` is None when it is not among the open ones any more."""

    event: PullRequestEvent
    number: int
    now: PullRequest | None


def pull_request_news(
    listed: Sequence[PullRequest],
    known: Mapping[int, KnownPullRequest],
    parameters: Parameters,
    *,
    watched: bool,
    asked: Set[int] | None = None,
) -> list[PullRequestChange]:
    """What is new to a service. `listed` are the pull requests as they are now: all open ones, or those of `asked`.
    `watched` is False when nobody had looked for them before: then they are only noted."""
    open_now = {one.number: one for one in listed if one.is_open and one.base_ref == parameters.branch}
    looked_at = known.keys() if asked is None else known.keys() & asked
    changes = [
        PullRequestChange(PullRequestEvent.CLOSED, number, None) for number in sorted(looked_at - open_now.keys())
    ]
    for number, now in sorted(open_now.items()):
        before = known.get(number)
        event = _event(now, before, watched=watched, drafts=parameters.drafts)
        if event is not None:
            changes.append(PullRequestChange(event, number, now))
    return changes


def _event(
    now: PullRequest, before: KnownPullRequest | None, *, watched: bool, drafts: bool
) -> PullRequestEvent | None:
    waits = now.is_draft and not drafts
    if before is None:
        return PullRequestEvent.OPENED if watched and not waits else PullRequestEvent.NOTED
    if waits:
        return None if before == KnownPullRequest(now.number, now.head, waits=True) else PullRequestEvent.NOTED
    if before.waits:
        return PullRequestEvent.OPENED
    return PullRequestEvent.SYNCHRONIZED if before.head != now.head else None


# -- whether a change is one for this service


def trigger_of(change: RefChange | PullRequestEvent, parameters: Parameters) -> Trigger:
    """What a run for it counts as."""
    if isinstance(change, RefChange):
        return Trigger.MAIN if change.ref == branch_of(parameters) else Trigger.MANUAL
    return Trigger.PR_OPEN if change is PullRequestEvent.OPENED else Trigger.PR_SYNC


def skips_ci(message: str) -> bool:
    """Whether a commit's message asks for no run."""
    return _SKIP.search(message) is not None


def touches(parameters: Parameters, files: Sequence[str]) -> bool:
    """Whether a change of these paths of the repository is one of the service."""
    patterns = watched_patterns(parameters)
    return not patterns or any(map(_compiled(patterns).match_file, files))


def watched_patterns(parameters: Parameters) -> tuple[str, ...]:
    """What the service watches of its repository, the last that matches deciding; nothing: everything."""
    written = [_anchored(pattern) for pattern in parameters.watch_paths]
    if parameters.path:
        return (f"/{_literal(parameters.path)}/", *written)
    if written and all(pattern.startswith("!") for pattern in written):
        return ("/**", *written)
    return tuple(written)


def why_nothing(parameters: Parameters, trigger: Trigger, *, commit: str, message: str) -> str | None:
    """Why a change that touches the service starts no run; None when it does."""
    if skips_ci(message):
        return f"the message of {short(commit)} says [skip ci]"
    if trigger is not Trigger.MANUAL and trigger not in parameters.triggers:
        return f"{trigger} is not among its triggers"
    return None


def _anchored(pattern: str) -> str:
    return f"!/{pattern[1:]}" if pattern.startswith("!") else f"/{pattern}"


def _literal(path: str) -> str:
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> PathSpec[Pattern]:
    from pathspec import PathSpec  # here, as it is megabytes which only `watch_paths` needs

    return PathSpec.from_lines("gitignore", patterns)
