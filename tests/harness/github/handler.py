"""The fake's HTTP: authentication, checks against the description, and git."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from harness.git_http import read_body, run_backend
from harness.github.answers import OPERATIONS, Answer, Asked, error, is_allowed, not_found
from harness.github.description import NotAsDescribedError, Operation, description
from harness.github.state import FakeRepository, Token

if TYPE_CHECKING:
    from harness.github.server import FakeGitHub, Fault

API = "/api/v3"


class Handler(BaseHTTPRequestHandler):
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
        match = re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git)?(/(?:info/refs|git-upload-pack|git-receive-pack))", path)
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
        is_push = "git-receive-pack" in path + query
        if is_push and not is_allowed(token, "contents:write"):
            self._send(403, {}, None)
            return
        place = f"/{repository.bare.name}{match[2]}"
        with self.server.lock if is_push else contextlib.nullcontext():
            before = repository.refs()
            answer = run_backend(repository.bare.parent, place, query, self, body)
            if is_push:
                self._tell_pushes(repository, before)
        self._write(*answer)

    def _tell_pushes(self, repository: FakeRepository, before: Mapping[str, str]) -> None:
        """GitHub's deliveries for what a push has changed, and the pull requests that follow their branches."""
        server, after, nothing = self.server, repository.refs(), "0" * 40
        for ref in sorted(ref for ref in before.keys() | after.keys() if before.get(ref) != after.get(ref)):
            old, new = before.get(ref, nothing), after.get(ref, nothing)
            server.later(partial(server.tell_ref, repository, ref, old, new))
            for pull in repository.follow(ref.removeprefix("refs/heads/")) if new != nothing else ():
                server.later(partial(server.tell_pull, repository, pull, "synchronize", before=old, after=new))

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
        with contextlib.suppress(ConnectionError):  # who asked may be gone by now
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
