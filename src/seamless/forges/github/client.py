"""The `GitHub` that talks to the real one, or to GitHub Enterprise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from seamless.errors import RefusedError, UsageError
from seamless.forges import CommitGoneError, RemoteProblem, Repository
from seamless.forges.github import (
    CommitStatus,
    GitHubError,
    Hook,
    HookDelivery,
    HostedRepository,
    MergeMethod,
    MergeRefusedError,
    PullRequest,
    PullRequests,
    TokenAccess,
)
from seamless.forges.github.merging import obstacle
from seamless.forges.github.permissions import login_of, probe
from seamless.forges.github.session import Answer, Limits, Session, message_of, refusal
from seamless.github_names import repository_name, web_location

_TIMEOUT_S: Final = 20.0
_THREADS: Final = 8  # requests at once; GitHub asks for no more than 100
_PAGE: Final = 100
_MOST_PAGES: Final = 20
_DESCRIPTION_MAX: Final = 140  # characters of a commit status


class GitHubClient:
    """See `GitHub`. `api_url` is https://api.github.com, or https://HOST/api/v3 of GitHub Enterprise Server."""

    def __init__(self, api_url: str, *, ca_bundle: Path | None = None, timeout_s: float = _TIMEOUT_S) -> None:
        self._api_url = api_url
        self._ca_bundle = ca_bundle
        self._timeout_s = timeout_s
        self._limits = Limits()
        # Of its own: a GitHub that hangs holds up nothing else that the agent does in threads.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="github")
        self._sessions: dict[tuple[str, str], Session] = {}
        self._hosted: dict[tuple[str, str], HostedRepository] = {}

    def close(self) -> None:
        """Waits for no request: those that are under way end with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def hosts(self, url: str) -> bool:
        """See `GitHub`."""
        return repository_name(url, self._api_url) is not None

    async def login_of(self, token: str) -> str | None:
        """See `GitHub`."""
        return await login_of(self._new_session(token))

    async def identify(self, repository: Repository) -> HostedRepository:
        """See `GitHub`."""
        key = self._key(repository)
        answer = await self._session(repository).ask("GET", f"/repos/{key[1]}")
        body = answer.body
        hosted = HostedRepository(body["id"], body["full_name"], body["default_branch"])
        self._hosted[key] = hosted
        return hosted

    async def open_pull_requests(self, repository: Repository, *, etag: str | None = None) -> PullRequests | None:
        """See `GitHub`."""
        query = {"state": "open", "sort": "updated", "direction": "desc", "per_page": _PAGE}
        first = await self._ask(repository, "GET", "/pulls", query=query, etag=etag)
        if first.status == 304:
            return None
        found = await self._further_pages(repository, "/pulls", query, first)
        return PullRequests([_pull(body) for body in found], first.headers.get("etag"))

    async def pull_request(self, repository: Repository, number: int) -> PullRequest:
        """See `GitHub`."""
        return _pull((await self._ask(repository, "GET", f"/pulls/{number}")).body)

    async def set_status(self, repository: Repository, commit: str, status: CommitStatus) -> None:
        """See `GitHub`."""
        body = {
            "state": status.state,
            "context": status.context,
            "description": _shortened(status.description),
            **({} if status.target_url is None else {"target_url": status.target_url}),
        }
        answer = await self._ask(repository, "POST", f"/statuses/{commit}", body=body, expected=(422,))
        if answer.status == 422:
            said = message_of(answer.body)
            kind = CommitGoneError if "no commit" in said.lower() else UsageError
            raise kind(f"{self._host} takes no status for {commit[:7]}: {said}")

    async def merge(self, repository: Repository, number: int, head: str, method: MergeMethod) -> str:
        """See `GitHub`."""
        body = (await self._ask(repository, "GET", f"/pulls/{number}")).body
        if body.get("merged"):
            return str(body["merge_commit_sha"])
        await self._refuse(repository, body, head)
        asked = {"sha": head, "merge_method": method}
        answer = await self._ask(repository, "PUT", f"/pulls/{number}/merge", body=asked, expected=(405, 409, 422))
        if answer.status == 200:
            return str(answer.body["sha"])
        body = (await self._ask(repository, "GET", f"/pulls/{number}")).body  # what has changed meanwhile?
        if body.get("merged"):
            return str(body["merge_commit_sha"])
        await self._refuse(repository, body, head)
        raise MergeRefusedError(f"GitHub refuses: {message_of(answer.body)}", may_change=False)

    async def _refuse(self, repository: Repository, body: Mapping[str, Any], head: str) -> None:
        """Raises MergeRefusedError when this pull request is not to be merged as it is."""
        reviews: list[Any] = []
        if body.get("mergeable_state") == "blocked":
            reviews = await self._list(repository, f"/pulls/{body['number']}/reviews")
        found = obstacle(_pull(body), str(body.get("mergeable_state")), head, reviews)
        if found is not None:
            raise found

    async def hooks(self, repository: Repository) -> list[Hook]:
        """See `GitHub`."""
        return [_hook(body) for body in await self._list(repository, "/hooks")]

    async def create_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> Hook:
        """See `GitHub`."""
        body = {"name": "web", "active": True, "events": list(events), "config": _hook_config(url, secret)}
        answer = await self._ask(repository, "POST", "/hooks", body=body, expected=(422,))
        if answer.status == 422:
            hint = "seamless webhook check SERVICE says whether it works"
            raise RefusedError(f"{self._host}: {message_of(answer.body)}", hint=hint)
        return _hook(answer.body)

    async def update_hook(
        self, repository: Repository, hook: int, url: str, secret: str, events: Sequence[str]
    ) -> Hook:
        """See `GitHub`."""
        body = {"active": True, "events": list(events), "config": _hook_config(url, secret)}
        return _hook((await self._ask(repository, "PATCH", f"/hooks/{hook}", body=body)).body)

    async def delete_hook(self, repository: Repository, hook: int) -> None:
        """See `GitHub`."""
        await self._ask(repository, "DELETE", f"/hooks/{hook}", expected=(404,))

    async def ping_hook(self, repository: Repository, hook: int) -> None:
        """See `GitHub`."""
        await self._ask(repository, "POST", f"/hooks/{hook}/pings")

    async def deliveries(self, repository: Repository, hook: int) -> list[HookDelivery]:
        """See `GitHub`."""
        query = {"per_page": _PAGE}
        answer = await self._ask(repository, "GET", f"/hooks/{hook}/deliveries", query=query)
        return [_delivery(body) for body in answer.body]

    async def redeliver(self, repository: Repository, hook: int, delivery: int) -> None:
        """See `GitHub`."""
        path = f"/hooks/{hook}/deliveries/{delivery}/attempts"
        answer = await self._ask(repository, "POST", path, expected=(400, 404, 422))
        if answer.status != 202:
            raise RefusedError(f"{self._host} does not send the delivery again: {message_of(answer.body)}")

    async def access(self, repository: Repository) -> TokenAccess:
        """See `GitHub`."""
        session = self._session(repository)
        return await probe(session, self._key(repository)[1])

    # -- asking

    @property
    def _host(self) -> str:
        return web_location(self._api_url)

    def _key(self, repository: Repository) -> tuple[str, str]:
        """Its token, and its name as the URL has it."""
        name = repository_name(repository.url, self._api_url)
        if name is None:
            hint = f"github.api_url is {self._api_url}"
            raise UsageError(f"{repository.shown} is no repository of {self._host}", hint=hint)
        if repository.credentials.token is None:
            hint = "seamless login stores one"
            raise GitHubError(f"there is no token for {repository.shown}", RemoteProblem.REFUSED, hint=hint)
        return repository.credentials.token, name

    def _session(self, repository: Repository) -> Session:
        key = self._key(repository)
        if key not in self._sessions:
            self._sessions[key] = self._new_session(key[0])
        return self._sessions[key]

    def _new_session(self, token: str) -> Session:
        return Session(
            self._api_url, token, self._limits, self._threads, ca_bundle=self._ca_bundle, timeout_s=self._timeout_s
        )

    async def _ask(
        self,
        repository: Repository,
        verb: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        etag: str | None = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """About a repository, by its id, which a rename does not change. One that is gone is looked up again, once:
        another may have its name now."""
        known = self._hosted.get(self._key(repository))
        hosted = known or await self.identify(repository)
        session = self._session(repository)

        async def ask(identity: int) -> Answer:
            place = f"/repositories/{identity}{path}"
            return await session.ask(verb, place, query=query, body=body, etag=etag, expected=(404, *expected))

        answer = await ask(hosted.id)
        if answer.status == 404 and known is not None:
            hosted = await self.identify(repository)
            answer = await ask(hosted.id) if hosted.id != known.id else answer
        if answer.status == 404 and 404 not in expected:
            raise refusal(session.host, f"{verb} /repos/{hosted.name}{path}", answer)
        return answer

    async def _list(self, repository: Repository, path: str) -> list[Any]:
        query = {"per_page": _PAGE}
        first = await self._ask(repository, "GET", path, query=query)
        return list(await self._further_pages(repository, path, query, first))

    async def _further_pages(
        self, repository: Repository, path: str, query: Mapping[str, Any], first: Answer
    ) -> Iterable[Any]:
        found, answer, page = list(first.body), first, 1
        while 'rel="next"' in answer.headers.get("link", "") and page < _MOST_PAGES:
            page += 1
            answer = await self._ask(repository, "GET", path, query={**query, "page": page})
            found += answer.body
        return found


def _pull(body: Mapping[str, Any]) -> PullRequest:
    head = body["head"]["repo"]
    author = body["user"] or {"login": "ghost", "id": 0}  # a user who is gone
    return PullRequest(
        number=body["number"],
        title=body["title"],
        author=author["login"],
        author_id=author["id"],
        head=body["head"]["sha"],
        head_ref=body["head"]["ref"],
        head_repository=None if head is None else head["id"],
        base_ref=body["base"]["ref"],
        base_repository=body["base"]["repo"]["id"],
        is_open=body["state"] == "open",
        is_draft=bool(body.get("draft")),
        is_merged=body.get("merged_at") is not None,
        updated_at=_time(body["updated_at"]),
    )


def _hook_config(url: str, secret: str) -> dict[str, str]:
    return {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}


def _hook(body: Mapping[str, Any]) -> Hook:
    config = body["config"]
    return Hook(
        id=body["id"],
        url=config.get("url", ""),
        events=tuple(body["events"]),
        active=body["active"],
        content_type=config.get("content_type", "form"),
    )


def _delivery(body: Mapping[str, Any]) -> HookDelivery:
    return HookDelivery(
        id=body["id"],
        guid=body["guid"],
        event=body["event"],
        delivered_at=_time(body["delivered_at"]),
        redelivery=body["redelivery"],
        status_code=body["status_code"],
        status=body["status"],
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _DESCRIPTION_MAX else f"{line[: _DESCRIPTION_MAX - 1]}…"
