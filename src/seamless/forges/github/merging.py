"""Whether a pull request may be merged by itself, from what GitHub says about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seamless.forges.github import MergeRefusedError, PullRequest
from seamless.model import short


def obstacle(
    pull: PullRequest, mergeable_state: str, head: str, reviews: Sequence[Mapping[str, Any]]
) -> MergeRefusedError | None:
    """Why this pull request, tested at `head`, is not merged now; None when it may be.

    `mergeable_state` is GitHub's word, which counts the branch's rules in also where the token's user could
    pass over them: clean, unstable (a check that no rule asks for has not passed), has_hooks, blocked, behind,
    dirty, draft, unknown (GitHub is finding out). https://docs.github.com/en/graphql/reference/enums#mergestatestatus
    """
    name = f"#{pull.number}"
    if not pull.is_open:
        return MergeRefusedError(f"{name} is closed", may_change=False)
    if pull.head != head:
        return MergeRefusedError(f"{name} is at {short(pull.head)} now, {short(head)} was tested", may_change=False)
    if pull.is_fork:
        return MergeRefusedError(f"{name} comes from a fork", may_change=False, hint="merge it on GitHub")
    if pull.is_draft or mergeable_state == "draft":
        return MergeRefusedError(f"{name} is a draft", may_change=False, hint="it is tried again when it is ready")
    match mergeable_state:
        case "clean" | "unstable" | "has_hooks":
            return None
        case "dirty":
            return MergeRefusedError(f"{name} conflicts with {pull.base_ref}", may_change=False)
        case "behind":
            message = f"{name} must be brought up to date with {pull.base_ref}, whose rules ask for that"
            return MergeRefusedError(message, may_change=False)
        case "blocked":
            return MergeRefusedError(f"the rules of {pull.base_ref} block {name}: {_told(reviews)}", may_change=True)
    return MergeRefusedError(f"GitHub does not know yet whether {name} can be merged", may_change=True)


def _told(reviews: Sequence[Mapping[str, Any]]) -> str:
    """What the reviewers last said; only approvals, requests and dismissals change what somebody said before."""
    last: dict[str, str] = {}
    for review in reviews:
        if review["state"] in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            last[(review["user"] or {"login": "ghost"})["login"]] = review["state"]
    words = {"APPROVED": "approved by", "CHANGES_REQUESTED": "changes requested by"}
    parts = []
    for state, text in words.items():
        people = sorted(who for who, said in last.items() if said == state)
        if people:
            parts.append(f"{text} {', '.join(people)}")
    return "; ".join(parts) or "nobody has approved it"
