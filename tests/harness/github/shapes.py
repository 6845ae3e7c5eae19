"""GitHub's JSON for what the fake knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from harness.github.description import description
from harness.github.state import FakeHook, FakePull, FakeRepository

_USERS: dict[str, int] = {}


def user_id(login: str) -> int:
    return _USERS.setdefault(login, 1000 + len(_USERS))


def time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def user(login: str, component: str = "simple-user") -> dict[str, Any]:
    return description().sample(component, login=login, id=user_id(login), type="User")


def repository(known: FakeRepository, url: str, component: str, role: str = "admin") -> dict[str, Any]:
    owner, name = known.name.split("/")
    roles = ("pull", "triage", "push", "maintain", "admin")
    return description().sample(
        component,
        id=known.id,
        name=name,
        full_name=known.name,
        owner=user(owner),
        private=True,
        default_branch="main",
        clone_url=f"{url}/{known.name}.git",
        permissions={each: roles.index(each) <= roles.index(role) for each in roles},
    )


def pull(known: FakeRepository, one: FakePull, head: FakeRepository | None, url: str, component: str) -> dict[str, Any]:
    """`head` is the repository of the head; None when that is gone."""
    whole = component == "pull-request"
    inner = "repository"
    values: dict[str, Any] = {
        "number": one.number,
        "title": one.title,
        "state": one.state,
        "draft": one.is_draft,
        "user": user(one.author),
        "updated_at": time(one.updated_at),
        "merged_at": time(one.updated_at) if one.merged_as else None,
        "merge_commit_sha": one.merged_as,
        "head": {
            "label": f"{one.author}:{one.branch}",
            "ref": one.branch,
            "sha": one.head,
            "user": user(one.author),
            "repo": None if head is None else repository(head, url, inner),
        },
        "base": {
            "label": f"{known.name.split('/')[0]}:{one.base}",
            "ref": one.base,
            "sha": known.head(one.base),
            "user": user(known.name.split("/")[0]),
            "repo": repository(known, url, inner),
        },
    }
    if whole:
        state = known.mergeable_state(one)
        values |= {
            "merged": one.merged_as is not None,
            "mergeable": None if state == "unknown" else state != "dirty",
            "mergeable_state": state,
        }
    return description().sample(component, **values)


def hook(known: FakeHook) -> dict[str, Any]:
    return description().sample(
        "hook",
        id=known.id,
        name="web",
        active=known.active,
        events=known.events,
        config={"url": known.url, "content_type": known.content_type, "insecure_ssl": "0", "secret": "********"},
    )
