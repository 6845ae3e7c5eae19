"""Deleting from registries: Debian's own on the loopback interface, and one that answers as the test says."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.registry import LocalRegistry
from seamless.errors import RefusedError, SeamlessError, UnavailableError
from seamless.model import DigestKind, ImageRef
from seamless.stages.registry import Credentials
from seamless.stages.registry_api import delete_manifest

pytestmark = pytest.mark.engine  # it is asked which registries are insecure

DIGEST = f"sha256:{'a' * 64}"
ACME = Credentials("acme", "secret")


def delete(host: str, credentials: Credentials | None = ACME) -> None:
    asyncio.run(delete_manifest(ImageRef(DIGEST, DigestKind.MANIFEST, f"{host}/acme/web"), credentials))


def test_what_is_not_there_is_deleted_and_nobody_deletes_without_a_right(registry: LocalRegistry) -> None:
    delete(registry.host)
    for credentials in (None, Credentials("acme", "wrong")):
        with pytest.raises(RefusedError, match="does not let us delete: HTTP 401 UNAUTHORIZED") as refused:
            delete(registry.host, credentials)
        assert refused.value.hint is not None


@dataclass
class Answers:
    """A registry that asks for a token, and answers a deletion with `status` and `code`."""

    status: int = 202
    code: str = ""
    realm: str = "http://{host}/token"
    seen: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], object]:
        self.seen.append((method, path, headers))
        if path.startswith("/token"):
            basic = base64.b64encode(b"acme:secret").decode()
            return (200, {}, {"token": "t0k3n"}) if headers.get("Authorization") == f"Basic {basic}" else (401, {}, {})
        if headers.get("Authorization") != "Bearer t0k3n":
            realm = self.realm.format(host=headers["Host"])
            asked = f'Bearer realm="{realm}",service="here",scope="repository:acme/web:delete"'
            return 401, {"WWW-Authenticate": asked}, {"errors": [{"code": "UNAUTHORIZED"}]}
        return self.status, {}, {"errors": [{"code": self.code}]} if self.code else None


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            status, headers, body = answers.answer(self.command, self.path, dict(self.headers))
            self.send_response(status)
            content = b"" if body is None else json.dumps(body).encode()
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.fake
def test_a_token_is_had_for_the_scope_that_the_registry_names() -> None:
    answers = Answers()
    with serving(answers) as host:
        delete(host)
    (_, token, _), (method, path, _) = answers.seen[-2:]
    assert parse_qs(urlsplit(token).query) == {"service": ["here"], "scope": ["repository:acme/web:delete"]}
    assert (method, path) == ("DELETE", f"/v2/acme/web/manifests/{DIGEST}")


@pytest.mark.fake
@pytest.mark.parametrize(
    ("status", "code", "error", "told"),
    [
        (404, "MANIFEST_UNKNOWN", None, ""),
        (404, "NOT_FOUND", None, ""),
        (404, "", RefusedError, "does not delete: HTTP 404"),  # whatever that is, it is no registry's word
        (405, "UNSUPPORTED", RefusedError, "does not delete: HTTP 405 UNSUPPORTED"),
        (403, "DENIED", RefusedError, "does not let us delete: HTTP 403 DENIED"),
        (301, "", RefusedError, "does not delete: HTTP 301"),
        (429, "TOOMANYREQUESTS", UnavailableError, "asked later"),
        (503, "", UnavailableError, "has trouble: HTTP 503"),
    ],
)
def test_only_a_refusal_is_for_ever(status: int, code: str, error: type[SeamlessError] | None, told: str) -> None:
    with serving(Answers(status, code)) as host:
        if error is None:
            delete(host)
        else:
            with pytest.raises(error, match=told):
                delete(host)


@pytest.mark.fake
def test_a_registry_that_is_not_there_is_no_refusal() -> None:
    with serving(Answers()) as host:
        pass
    with pytest.raises(UnavailableError, match="does not answer"):
        delete(host)
