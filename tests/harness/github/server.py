"""The fake's HTTP: authentication, checks against the description, faults, deliveries, and git."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import re
import socket
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit

from harness.git_http import read_body, run_backend
from harness.github import shapes
from harness.github.answers import OPERATIONS, Answer, Asked, error, is_allowed, not_found
from harness.github.description import NotAsDescribedError, Operation, description, laid_over
from harness.github.state import FakeHook, FakePull, FakeRepository, Token

API = "/api/v3"
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

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
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
        payload = description().sample_event("push", ref=f"refs/heads/{branch}", before=before, after=after)
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
        code, words = _post(hook.url, headers, body)
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


class _Handler(BaseHTTPRequestHandler):
    server: FakeGitHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path.startswith("/login/"):
            self._serve_device_flow(asked.path)
        elif asked.path.startswith(API + "/"):
            self._serve_api(asked.path.removeprefix(API), dict(parse_qsl(asked.query)))
        else:
            self._serve_git(asked.path, asked.query)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # every method is served alike
            return self.do_GET
        raise AttributeError(name)

    # -- the API

    def _serve_api(self, path: str, query: dict[str, str]) -> None:
        raw = read_body(self)
        loses_answer = False
        fault = self._fault(self._by_name(path))
        if fault is not None:
            if fault.reached is not None:
                fault.reached.set()
            if fault.until is not None:
                fault.until.wait(60)
            loses_answer = fault.loses_answer
        if fault is not None and fault.status is not None:
            answer: Answer = (fault.status, dict(fault.headers), dict(fault.body))
        else:
            try:
                with self.server.lock:
                    answer = self._checked(path, query, raw)
            except NotAsDescribedError as violation:
                self.server.violations.append(str(violation))
                answer = error(500, str(violation))
        self.server.requests.append((self.command, self._by_name(path), answer[0]))
        if loses_answer:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._send(*answer)

    def _fault(self, path: str) -> Fault | None:
        with self.server.lock:
            for fault in self.server.faults:
                if re.search(fault.pattern, f"{self.command} {path}") and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _checked(self, path: str, query: dict[str, str], raw: bytes) -> Answer:
        token = self._token()
        if token is None:
            return error(401, "Bad credentials")
        path = self._by_name(path)
        if (moved := self._moved(path)) is not None:
            return moved
        operation = description().find(self.command, path)
        body = json.loads(raw) if raw else None
        if "User-Agent" not in self.headers:
            raise NotAsDescribedError("GitHub refuses requests without a User-Agent")
        description().check_request(operation, query, body)
        answer = self._answered(operation, query, body, token)
        if description().describes(operation, answer[0]) or answer[0] < 400:
            description().check_answer(operation, answer[0], answer[2])
        return self._with_headers(answer, token)

    def _answered(self, operation: Operation, query: dict[str, str], body: Any, token: Token) -> Answer:
        needs, act = OPERATIONS[f"{operation.method.upper()} {operation.path}"]
        if "owner" in operation.values:
            name = f"{operation.values['owner']}/{operation.values['repo']}"
            if name not in self.server.repositories:
                return not_found()
            if not is_allowed(token, needs):
                if token.scopes is not None:  # GitHub hides from a classic token what it may not see
                    return not_found()
                return error(403, "Resource not accessible by personal access token")
        return act(Asked(self.server, operation, query, body, token))

    def _with_headers(self, answer: Answer, token: Token) -> Answer:
        status, headers, body = answer
        headers = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4999", **headers}
        if token.scopes is not None:
            headers["X-OAuth-Scopes"] = ", ".join(token.scopes)
        if token.expires_at is not None:
            headers["GitHub-Authentication-Token-Expiration"] = token.expires_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        if self.command == "GET" and status == 200:
            etag = f'W/"{hashlib.sha256(json.dumps([body, headers]).encode()).hexdigest()}"'
            if self.headers.get("If-None-Match") == etag:
                return 304, {"ETag": etag}, None
            headers["ETag"] = etag
        return status, headers, body

    def _token(self) -> Token | None:
        """The token that the request shows, while it is good."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            value = base64.b64decode(value).decode().partition(":")[2]
        known = self.server.tokens.get(value)
        if known is not None and known.expires_at is not None and known.expires_at < datetime.now(UTC):
            return None
        return known

    def _by_name(self, path: str) -> str:
        """GitHub takes /repositories/<id>/… for /repos/<owner>/<name>/…, which its description does not tell."""
        match = re.fullmatch(r"/repositories/([0-9]+)(/.*)?", path)
        for repository in self.server.repositories.values() if match else ():
            if match and repository.id == int(match[1]):
                return f"/repos/{repository.name}{match[2] or ''}"
        return path if match is None else f"/repos/nobody/nothing{match[2] or ''}"

    def _moved(self, path: str) -> Answer | None:
        match = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)?", path)
        repository = self.server.repositories.get(match[1]) if match else None
        if match is None or repository is None or repository.name == match[1]:
            return None
        status = 301 if self.command == "GET" else 307
        location = f"{self.server.api_url}/repositories/{repository.id}{match[2] or ''}"
        body = {"message": "Moved Permanently", "url": location, "documentation_url": "https://docs.github.com/rest"}
        return status, {"Location": location}, body

    # -- OAuth's device flow, which the description does not have; see its documentation

    def _serve_device_flow(self, path: str) -> None:
        form = dict(parse_qsl(read_body(self).decode()))
        server = self.server
        if form.get("client_id") != server.client_id:
            self._send(404, {}, {"error": "Not Found"})
        elif path == "/login/device/code":
            told = {"device_code": "3584d83530557fdd1f46af8289938c8ef79f9dc5", "user_code": "WDJB-MJHT"}
            uri = f"{server.url}/login/device"
            self._send(200, {}, {**told, "verification_uri": uri, "expires_in": 900, "interval": 1})
        elif form.get("device_code") != "3584d83530557fdd1f46af8289938c8ef79f9dc5":
            self._send(200, {}, {"error": "incorrect_device_code", "error_description": "It is not valid."})
        elif server.authorised is None:
            self._send(200, {}, {"error": "authorization_pending", "error_description": "Not yet."})
        else:
            self._send(200, {}, {"access_token": server.authorised, "token_type": "bearer", "scope": "repo"})

    # -- git

    def _serve_git(self, path: str, query: str) -> None:
        body = read_body(self)  # also of what is refused: the connection is used again
        match = re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git)?(/(?:info/refs|git-upload-pack))", path)
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        shown = base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else None
        self.server.git_requests.append((path, shown))
        fault = self._fault(path)
        if fault is not None and fault.status is not None:
            self._send(fault.status, {}, None)
            return
        token = self._token()
        if token is None or (token.scopes is None and "contents" not in token.permissions):
            self._send(401, {"WWW-Authenticate": 'Basic realm="GitHub"'}, None)
            return
        repository = self.server.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            self._send(404, {}, None)
            return
        if repository.name != match[1] and self.command == "GET":
            location = f"{self.server.url}/{repository.name}.git{match[2]}?{query}"
            self._send(301, {"Location": location}, None)
            return
        place = f"/{repository.bare.name}{match[2]}"
        self._write(*run_backend(repository.bare.parent, place, query, self, body))

    def _send(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        if body is None:
            self._write(status, headers, b"")
        else:
            content = {"Content-Type": "application/json; charset=utf-8"}
            self._write(status, {**content, **headers}, json.dumps(body).encode())

    def _write(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            if status not in (204, 304) or name != "Content-Length":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


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
