"""What the fake is: its repositories and tokens, faults on demand, and the webhooks that it delivers."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import re
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from harness.github import shapes
from harness.github.description import description, laid_over
from harness.github.handler import API, Handler
from harness.github.state import FakeHook, FakePull, FakeRepository, Token

_DELIVERY_S = 5.0


@dataclass
class Fault:
    """What happens to requests whose "METHOD /path" matches `pattern`, `times` times. The first that fits is taken."""

    pattern: str
    times: int = 10**9
    status: int | None = None  # is answered instead, with `body` and `headers`
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    loses_answer: bool = False  # what was asked for is done, and the connection is closed
    until: threading.Event | None = None  # answered only then: as slow as the test likes
    reached: threading.Event | None = None  # set when a request is there


def secondary_limit(pattern: str, retry_after_s: int, times: int = 1) -> Fault:
    message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    return Fault(pattern, times, 403, {"message": message}, {"Retry-After": str(retry_after_s)})


class FakeGitHub(ThreadingHTTPServer):
    """`add` repositories and `tokens`, give `url` and `api_url` to Seamless; `violations` must be empty at the end."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = folder
        self.repositories: dict[str, FakeRepository] = {}  # by every name that leads to it
        self.tokens: dict[str, Token] = {}
        self.faults: list[Fault] = []
        self.client_id = "Iv1.0123456789abcdef"  # of the OAuth app whose device flow is enabled
        self.authorised: str | None = None  # the token that the device flow gives, once somebody has typed the code
        self.requests: list[tuple[str, str, int]] = []  # (method, path, status), of the API
        self.git_requests: list[tuple[str, str | None]] = []  # (path, the token)
        self.violations: list[str] = []
        self.lock = threading.RLock()
        self._deliverer = ThreadPoolExecutor(1, thread_name_prefix="deliveries")
        self._delivery_ids = itertools.count(90000)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def api_url(self) -> str:
        return self.url + API

    def add(self, name: str, files: Mapping[str, str | None] | None = None) -> FakeRepository:
        repository = self.repositories[name] = FakeRepository(self.folder, name)
        if files is not None:
            repository.push(files, message="first")
        return repository

    def rename(self, repository: FakeRepository, name: str) -> None:
        """The old name leads there from now on."""
        repository.renamed_from.append(repository.name)
        repository.name = name
        self.repositories[name] = repository

    def delete(self, repository: FakeRepository) -> None:
        for name in [name for name, one in self.repositories.items() if one is repository]:
            del self.repositories[name]

    def asked(self, pattern: str) -> list[tuple[str, str, int]]:
        """The API's requests so far whose "METHOD /path" matches."""
        return [one for one in list(self.requests) if re.search(pattern, f"{one[0]} {one[1]}")]

    def pull_shape(self, repository: FakeRepository, pull: FakePull, component: str) -> dict[str, Any]:
        head = repository
        if pull.fork is not None:
            forks = [one for one in self.repositories.values() if one.id == pull.fork]
            if not forks:
                return shapes.pull(repository, pull, None, self.url, component)
            head = forks[0]
        return shapes.pull(repository, pull, head, self.url, component)

    # -- webhooks

    def later(self, deliver: Callable[[], None]) -> None:
        """Deliveries are made one after the other, when the request that caused them has been answered."""
        self._deliverer.submit(self._guarded, deliver)

    def _guarded(self, deliver: Callable[[], None]) -> None:
        try:
            deliver()
        except Exception as fault:
            self.violations.append(f"a delivery: {fault!r}")

    def delivered(self) -> None:
        """Returns when all deliveries so far have been made."""
        self._deliverer.submit(lambda: None).result(30)

    def ping(self, repository: FakeRepository, hook: FakeHook) -> None:
        payload = description().sample_event(
            "ping", zen="Keep it logically awesome.", hook_id=hook.id, hook=self._ping_hook(hook)
        )
        payload["repository"] = shapes.repository(repository, self.url, "repository-webhooks")
        description().check_event("ping", payload)
        self.deliver(hook, "ping", json.dumps(payload).encode())

    @staticmethod
    def _ping_hook(hook: FakeHook) -> dict[str, Any]:
        shape = shapes.hook(hook)
        wanted = ("active", "config", "created_at", "events", "id", "name", "type", "updated_at")
        return {**{key: shape[key] for key in wanted}, "type": "Repository"}

    def tell_push(self, repository: FakeRepository, branch: str, before: str, after: str) -> None:
        self.tell_ref(repository, f"refs/heads/{branch}", before, after)

    def tell_ref(self, repository: FakeRepository, ref: str, before: str, after: str) -> None:
        """Of a branch or tag; a commit of zeros is none."""
        payload = description().sample_event("push", ref=ref, before=before, after=after)
        shape = shapes.repository(repository, self.url, "repository-webhooks")
        payload["repository"] |= {key: shape[key] for key in ("id", "name", "full_name", "clone_url", "default_branch")}
        payload["deleted"] = set(after) == {"0"}
        payload["created"] = set(before) == {"0"}
        description().check_event("push", payload)
        self._tell(repository, "push", payload)

    def tell_pull(self, repository: FakeRepository, pull: FakePull, action: str, **more: Any) -> None:
        """`action` is "opened", "synchronize", "closed", …"""
        event = f"pull-request-{action.replace('_', '-')}"
        payload = description().sample_event(event, action=action, number=pull.number, **more)
        shape = self.pull_shape(repository, pull, "pull-request")
        payload["pull_request"] = laid_over(payload["pull_request"], shape)
        hosted = shapes.repository(repository, self.url, "repository-webhooks")
        payload["repository"] = laid_over(payload["repository"], hosted)
        description().check_event(event, payload)
        self._tell(repository, "pull_request", payload)

    def tell_review(self, repository: FakeRepository, pull: FakePull) -> None:
        """Of its last review."""
        event = "pull-request-review-submitted"
        payload = description().sample_event(event, action="submitted")
        who, state = pull.reviews[-1]
        review = {"state": state.lower(), "user": {"login": who, "id": shapes.user_id(who)}, "commit_id": pull.head}
        payload["review"] = laid_over(payload["review"], review)
        ends = {"head": {"ref": pull.branch, "sha": pull.head}, "base": {"ref": pull.base}}
        shape = {"number": pull.number, "title": pull.title, "state": pull.state, "draft": pull.is_draft, **ends}
        payload["pull_request"] = laid_over(payload["pull_request"], shape)
        hosted = shapes.repository(repository, self.url, "repository-webhooks")
        payload["repository"] = laid_over(payload["repository"], hosted)
        description().check_event(event, payload)
        self._tell(repository, "pull_request_review", payload)

    def tell_status(self, repository: FakeRepository, commit: str, state: str, context: str) -> None:
        payload = description().sample_event("status", sha=commit, state=state, context=context)
        hosted = shapes.repository(repository, self.url, "repository-webhooks")
        payload["repository"] = laid_over(payload["repository"], hosted)
        description().check_event("status", payload)
        self._tell(repository, "status", payload)

    def tell_merged(self, repository: FakeRepository, pull: FakePull) -> None:
        assert pull.merged_as is not None
        self.tell_pull(repository, pull, "closed")
        self.tell_push(repository, pull.base, "1" * 40, pull.merged_as)

    def _tell(self, repository: FakeRepository, event: str, payload: Mapping[str, Any]) -> None:
        body = json.dumps(payload).encode()
        for hook in list(repository.hooks.values()):
            if hook.active and (event in hook.events or "*" in hook.events):
                self.deliver(hook, event, body)

    def deliver(self, hook: FakeHook, event: str, body: bytes, *, guid: str | None = None) -> None:
        redelivery = guid is not None
        guid = guid or str(uuid.uuid4())
        signature = hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/fake",
            "X-GitHub-Delivery": guid,
            "X-GitHub-Event": event,
            "X-GitHub-Hook-ID": str(hook.id),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        code, words = _post(hook.leads_to or hook.url, headers, body)
        identity = next(self._delivery_ids)
        hook.payloads[identity] = (guid, event, body)
        now = shapes.time(datetime.now(UTC))
        shown = {"id": identity, "guid": guid, "event": event, "redelivery": redelivery, "delivered_at": now}
        hook.deliveries.insert(
            0, description().sample("hook-delivery-item", **shown, status_code=code, status=words, duration=0.1)
        )

    def close(self) -> None:
        self._deliverer.shutdown(wait=True, cancel_futures=True)
        self.server_close()


def _post(url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, body, dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=_DELIVERY_S) as answer:
            return answer.status, "OK"
    except HTTPError as refused:
        with refused:
            return refused.code, refused.reason
    except OSError:
        return 502, "failed to connect to host"


@contextlib.contextmanager
def fake_github(folder: Path) -> Iterator[FakeGitHub]:
    """Serves until the end, and insists that nothing went over it that GitHub's description does not allow."""
    folder.mkdir(parents=True)
    server = FakeGitHub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
        server.delivered()
        assert not server.violations, "\n".join(server.violations)
    finally:
        server.shutdown()
        thread.join()
        server.close()
