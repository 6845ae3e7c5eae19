"""What a token may do, found out by reading only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from seamless.forges.github import Access, Permission, TokenAccess
from seamless.forges.github.session import Answer, Session

# Scopes of a classic token that grant it, for any repository; `public_repo` counts for a public one.
# https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
_SCOPES: Final[Mapping[Permission, frozenset[str]]] = {
    Permission.CONTENTS_READ: frozenset({"repo"}),
    Permission.PULL_REQUESTS_READ: frozenset({"repo"}),
    Permission.STATUSES_WRITE: frozenset({"repo", "repo:status"}),
    Permission.CONTENTS_WRITE: frozenset({"repo"}),
    Permission.WEBHOOKS_WRITE: frozenset({"repo", "admin:repo_hook", "write:repo_hook"}),
}
_BY_PUBLIC_REPO: Final = frozenset(_SCOPES) - {Permission.WEBHOOKS_WRITE}
# What the token's user must be in the repository: a key of its `permissions`.
_ROLE: Final[Mapping[Permission, str]] = {
    Permission.CONTENTS_READ: "pull",
    Permission.PULL_REQUESTS_READ: "pull",
    Permission.STATUSES_WRITE: "push",
    Permission.CONTENTS_WRITE: "push",
    Permission.WEBHOOKS_WRITE: "admin",
}


async def probe(session: Session, name: str) -> TokenAccess:
    """Asks as `owner/name`'s reader. Raises GitHubError when not even the repository can be seen."""
    answer = await session.ask("GET", f"/repos/{name}")
    repository = answer.body
    login = await login_of(session)
    kind, scopes = _kind(answer)
    roles = repository.get("permissions") or {}
    if scopes is not None:
        access = {each: by_scopes(each, scopes, is_private=bool(repository["private"])) for each in Permission}
    else:
        access = await _by_reading(session, f"/repos/{repository['full_name']}", repository["default_branch"])
    for permission, role in _ROLE.items():
        if role in roles and not roles[role]:
            access[permission] = Access.MISSING
    return TokenAccess(login, kind, scopes, _expiry(answer.headers), access)


def by_scopes(permission: Permission, scopes: tuple[str, ...], *, is_private: bool) -> Access:
    """What a classic token's scopes grant."""
    granting = _SCOPES[permission] | (set() if is_private or permission not in _BY_PUBLIC_REPO else {"public_repo"})
    readable = not is_private and permission in (Permission.CONTENTS_READ, Permission.PULL_REQUESTS_READ)
    return Access.GRANTED if readable or granting & set(scopes) else Access.MISSING


async def login_of(session: Session) -> str | None:
    """See `GitHub.login_of`."""
    answer = await session.ask("GET", "/user", expected=(403, 404))  # an app's token has no user
    return str(answer.body["login"]) if answer.status == 200 else None


async def _by_reading(session: Session, place: str, branch: str) -> dict[Permission, Access]:
    """Where only reading is needed, reading tells. Where writing is, it tells only what is certainly missing."""

    async def reads(path: str) -> bool:
        answer = await session.ask("GET", place + path, query={"per_page": 1}, expected=(403, 404))
        return answer.status == 200

    async def reads_branch() -> bool:
        return (await session.ask("GET", f"{place}/branches/{branch}", expected=(403, 404))).status == 200

    branch = quote(branch, safe="")
    contents = await reads_branch()
    return {
        Permission.CONTENTS_READ: _known(contents),
        Permission.PULL_REQUESTS_READ: _known(await reads("/pulls")),
        Permission.STATUSES_WRITE: _at_most(await reads(f"/commits/{branch}/statuses")),
        Permission.CONTENTS_WRITE: _at_most(contents),
        Permission.WEBHOOKS_WRITE: _at_most(await reads("/hooks")),
    }


def _known(can_read: bool) -> Access:
    return Access.GRANTED if can_read else Access.MISSING


def _at_most(can_read: bool) -> Access:
    return Access.NOT_CHECKED if can_read else Access.MISSING


def _kind(answer: Answer) -> tuple[str, tuple[str, ...] | None]:
    given = answer.headers.get("x-oauth-scopes")
    if given is None:
        return "fine-grained", None
    return "classic", tuple(scope for scope in (part.strip() for part in given.split(",")) if scope)


def _expiry(headers: Mapping[str, Any]) -> datetime | None:
    """From "2026-12-01 10:00:00 UTC", or with an offset such as +0200 for UTC."""
    text = str(headers.get("github-authentication-token-expiration", ""))
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (UTC|[+-]\d{4})", text)
    if match is None:
        return None
    offset = "+0000" if match[2] == "UTC" else match[2]
    return datetime.strptime(f"{match[1]} {offset}", "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)
