"""What each operation of the fake does. An answer is (status, headers, body); a body of None is none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.github import shapes
from harness.github.description import Operation, description
from harness.github.state import FakeHook, FakePull, FakeRepository, Token

if TYPE_CHECKING:
    from harness.github.server import FakeGitHub

Answer = tuple[int, dict[str, str], Any]


@dataclass
class Asked:
    """A request that has been checked, and whose token is good."""

    github: FakeGitHub
    operation: Operation
    query: Mapping[str, str]
    body: Any
    token: Token

    @property
    def repository(self) -> FakeRepository:
        return self.github.repositories[f"{self.operation.values['owner']}/{self.operation.values['repo']}"]

    def number(self, name: str) -> int:
        return int(self.operation.values[name])


def error(status: int, message: str, **more: Any) -> Answer:
    url = "https://docs.github.com/rest"
    return status, {}, {"message": message, "documentation_url": url, "status": str(status), **more}


def not_found() -> Answer:
    return error(404, "Not Found")


def invalid(message: str) -> Answer:
    return error(
        422, "Validation Failed", errors=[{"resource": "x", "field": "x", "code": "custom", "message": message}]
    )


def _pages(asked: Asked, found: list[Any]) -> Answer:
    size, page = int(asked.query.get("per_page", "30")), int(asked.query.get("page", "1"))
    headers = {}
    if len(found) > size * page:
        path = asked.operation.path.format(**asked.operation.values)
        query = "&".join(f"{key}={value}" for key, value in {**asked.query, "page": str(page + 1)}.items())
        headers["Link"] = f'<{asked.github.api_url}{path}?{query}>; rel="next"'
    return 200, headers, found[size * (page - 1) : size * page]


def user(asked: Asked) -> Answer:
    return 200, {}, {**shapes.user(asked.token.login, "public-user"), "user_view_type": "public"}


def repository(asked: Asked) -> Answer:
    known = asked.repository
    return 200, {}, shapes.repository(known, asked.github.url, "full-repository", asked.token.role)


def branch(asked: Asked) -> Answer:
    name = asked.operation.values["branch"]
    head = asked.repository.head(name)
    if not head:
        return error(404, "Branch not found")
    sample = description().sample("branch-with-protection", name=name)
    return 200, {}, {**sample, "commit": {**sample["commit"], "sha": head}}


def statuses(asked: Asked) -> Answer:
    return _pages(asked, asked.repository.statuses.get(asked.operation.values["ref"], []))


def set_status(asked: Asked) -> Answer:
    known, commit = asked.repository, asked.operation.values["sha"]
    if not known.has(commit):
        return invalid(f"No commit found for SHA: {commit}")
    if len(asked.body.get("description") or "") > 140:
        return invalid("description is too long (maximum is 140 characters)")
    given = {key: asked.body.get(key) for key in ("state", "context", "description", "target_url")}
    now = shapes.time(datetime.now(UTC))
    status = description().sample("status", **given, created_at=now, creator=shapes.user(asked.token.login))
    known.statuses.setdefault(commit, []).insert(0, status)
    asked.github.later(lambda: asked.github.tell_status(known, commit, given["state"], given["context"]))
    return 201, {}, status


def pulls(asked: Asked) -> Answer:
    known, state = asked.repository, asked.query.get("state", "open")
    found = [pull for pull in known.pulls.values() if state in ("all", pull.state)]
    by_update = asked.query.get("sort") == "updated"
    found.sort(
        key=lambda pull: (pull.updated_at.timestamp() if by_update else 0, pull.number),
        reverse=asked.query.get("direction", "desc") == "desc",
    )
    return _pages(asked, [_pull(asked, pull, "pull-request-simple") for pull in found])


def _pull(asked: Asked, pull: FakePull, component: str) -> dict[str, Any]:
    return asked.github.pull_shape(asked.repository, pull, component)


def pull(asked: Asked) -> Answer:
    found = asked.repository.pulls.get(asked.number("pull_number"))
    return not_found() if found is None else (200, {}, _pull(asked, found, "pull-request"))


def open_pull(asked: Asked) -> Answer:
    known, body = asked.repository, asked.body
    if not known.head(body["head"]) or not known.head(body["base"]):
        return invalid("head or base is no branch")
    made = known.open_pull(
        body["head"], body["title"], base=body["base"], author=asked.token.login, draft=body.get("draft", False)
    )
    asked.github.later(lambda: asked.github.tell_pull(known, made, "opened"))
    return 201, {}, _pull(asked, made, "pull-request")


def update_pull(asked: Asked) -> Answer:
    known = asked.repository
    found = known.pulls.get(asked.number("pull_number"))
    if found is None:
        return not_found()
    state = asked.body.get("state", found.state)
    if state != found.state:
        found.state = state
        action = "closed" if state == "closed" else "reopened"
        asked.github.later(lambda: asked.github.tell_pull(known, found, action))
    return 200, {}, _pull(asked, found, "pull-request")


def review(asked: Asked) -> Answer:
    known = asked.repository
    found = known.pulls.get(asked.number("pull_number"))
    if found is None:
        return not_found()
    state = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}[asked.body["event"]]
    found.reviews.append((asked.token.login, state))
    asked.github.later(lambda: asked.github.tell_review(known, found))
    shown = {"id": len(found.reviews) - 1, "user": shapes.user(asked.token.login), "state": state}
    return 200, {}, description().sample("pull-request-review", **shown, commit_id=found.head)


def reviews(asked: Asked) -> Answer:
    found = asked.repository.pulls.get(asked.number("pull_number"))
    if found is None:
        return not_found()
    given = [
        description().sample("pull-request-review", id=index, user=shapes.user(who), state=state, commit_id=found.head)
        for index, (who, state) in enumerate(found.reviews)
    ]
    return _pages(asked, given)


def merge(asked: Asked) -> Answer:
    known = asked.repository
    found = known.pulls.get(asked.number("pull_number"))
    body = asked.body or {}
    method = body.get("merge_method", "merge")
    if found is None:
        return not_found()
    if found.state != "open" or known.mergeable_state(found) in ("dirty", "draft"):
        return error(405, "Pull Request is not mergeable")
    if method not in known.merge_methods:
        return error(405, f"{method.title()} merges are not allowed on this repository.")
    if known.mergeable_state(found) == "blocked" and asked.token.role != "admin":
        return error(405, "At least 1 approving review is required by reviewers with write access.")
    if body.get("sha", found.head) != found.head:
        return error(409, "Head branch was modified. Review and try the merge again.")
    commit = known.merge(found, method)
    asked.github.later(lambda: asked.github.tell_merged(known, found))
    return 200, {}, {"sha": commit, "merged": True, "message": "Pull Request successfully merged"}


def hooks(asked: Asked) -> Answer:
    return _pages(asked, [shapes.hook(hook) for hook in asked.repository.hooks.values()])


_hook_ids = itertools.count(12345678)


def create_hook(asked: Asked) -> Answer:
    known, config = asked.repository, asked.body["config"]
    if any(hook.url == config["url"] for hook in known.hooks.values()):
        return invalid("Hook already exists on this repository")
    made = FakeHook(next(_hook_ids), config["url"], config.get("secret", ""), list(asked.body.get("events", ["push"])))
    made.content_type = config.get("content_type", "form")
    known.hooks[made.id] = made
    asked.github.later(lambda: asked.github.ping(known, made))
    return 201, {}, shapes.hook(made)


def update_hook(asked: Asked) -> Answer:
    found = asked.repository.hooks.get(asked.number("hook_id"))
    if found is None:
        return not_found()
    config = asked.body.get("config", {})
    found.url, found.secret = config.get("url", found.url), config.get("secret", "")  # a secret left out is removed
    found.content_type = config.get("content_type", "form")
    found.events = list(asked.body.get("events", found.events))
    found.active = asked.body.get("active", found.active)
    return 200, {}, shapes.hook(found)


def delete_hook(asked: Asked) -> Answer:
    return not_found() if asked.repository.hooks.pop(asked.number("hook_id"), None) is None else (204, {}, None)


def ping_hook(asked: Asked) -> Answer:
    found = asked.repository.hooks.get(asked.number("hook_id"))
    if found is None:
        return not_found()
    asked.github.later(lambda: asked.github.ping(asked.repository, found))
    return 204, {}, None


def deliveries(asked: Asked) -> Answer:
    found = asked.repository.hooks.get(asked.number("hook_id"))
    return not_found() if found is None else (200, {}, found.deliveries[: int(asked.query.get("per_page", "30"))])


def redeliver(asked: Asked) -> Answer:
    found = asked.repository.hooks.get(asked.number("hook_id"))
    delivery = asked.number("delivery_id")
    if found is None or delivery not in found.payloads:
        return not_found()
    guid, event, payload = found.payloads[delivery]
    asked.github.later(lambda: asked.github.deliver(found, event, payload, guid=guid))
    return 202, {}, {}


# What an operation needs of a fine-grained token, and what it does.
OPERATIONS: Mapping[str, tuple[str | None, Callable[[Asked], Answer]]] = {
    "GET /user": (None, user),
    "GET /repos/{owner}/{repo}": ("metadata:read", repository),
    "GET /repos/{owner}/{repo}/branches/{branch}": ("contents:read", branch),
    "GET /repos/{owner}/{repo}/commits/{ref}/statuses": ("statuses:read", statuses),
    "POST /repos/{owner}/{repo}/statuses/{sha}": ("statuses:write", set_status),
    "GET /repos/{owner}/{repo}/pulls": ("pull_requests:read", pulls),
    "POST /repos/{owner}/{repo}/pulls": ("pull_requests:write", open_pull),
    "GET /repos/{owner}/{repo}/pulls/{pull_number}": ("pull_requests:read", pull),
    "PATCH /repos/{owner}/{repo}/pulls/{pull_number}": ("pull_requests:write", update_pull),
    "GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews": ("pull_requests:read", reviews),
    "POST /repos/{owner}/{repo}/pulls/{pull_number}/reviews": ("pull_requests:write", review),
    "PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge": ("contents:write", merge),
    "GET /repos/{owner}/{repo}/hooks": ("webhooks:read", hooks),
    "POST /repos/{owner}/{repo}/hooks": ("webhooks:write", create_hook),
    "PATCH /repos/{owner}/{repo}/hooks/{hook_id}": ("webhooks:write", update_hook),
    "DELETE /repos/{owner}/{repo}/hooks/{hook_id}": ("webhooks:write", delete_hook),
    "POST /repos/{owner}/{repo}/hooks/{hook_id}/pings": ("webhooks:read", ping_hook),
    "GET /repos/{owner}/{repo}/hooks/{hook_id}/deliveries": ("webhooks:read", deliveries),
    "POST /repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts": ("webhooks:write", redeliver),
}


def is_allowed(token: Token, needs: str | None) -> bool:
    """Whether scopes, permissions and role allow it."""
    if needs is None or needs == "metadata:read":
        return True
    what, how = needs.split(":")
    least = (
        {"webhooks": "admin", "statuses": "push", "contents": "push"}.get(what, "pull") if how == "write" else "pull"
    )
    if what == "webhooks":
        least = "admin"
    roles = ("pull", "push", "admin")
    if roles.index(token.role) < roles.index(least):
        return False
    if token.scopes is not None:
        wanted = {"webhooks": {"repo", "admin:repo_hook"}, "statuses": {"repo", "repo:status"}}.get(what, {"repo"})
        return bool(wanted & set(token.scopes))
    return token.permissions.get(what) in ({"write"} if how == "write" else {"read", "write"})
