"""AWS as the tests see it: moto over HTTP in this process, which notes every call and refuses some when it is told to.

Its state is moto's own (`moto.backends`), for the tests to change where AWS would. A test in which moto meets an
error of its own fails.
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import boto3
import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

REGION = "eu-central-1"
ACCOUNT = "123456789012"  # moto's
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "testing"}


@dataclass(frozen=True)
class Refusal:
    """An answer instead of moto's."""

    code: str
    message: str = "the test wants it so"
    status: int = 400


class Moto:
    """`calls` are those that came, as (action, parameters); `refuse` answers the next ones of an action otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.troubles: list[str] = []
        self._refusals: dict[str, list[Refusal]] = {}
        self._before: dict[str, Callable[[], None]] = {}
        self._instead: dict[str, Callable[[str, Mapping[str, Any]], Response]] = {}
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, region: str = REGION) -> Any:
        """The test's own, whose calls are noted too."""
        if (service, region) not in self._clients:
            session: Any = boto3.Session("testing", "testing", "testing", region)
            self._clients[service, region] = session.client(service, endpoint_url=self.url)
        return self._clients[service, region]

    def refuse(self, action: str, *refusals: Refusal) -> None:
        """The next calls of that action, such as "GetParameters", are answered so, one after the other."""
        self._refusals.setdefault(action, []).extend(refusals)

    def before(self, action: str, change: Callable[[], None]) -> None:
        """Calls `change` before each call of that action is answered: for what AWS would do meanwhile."""
        self._before[action] = change

    def instead(self, actions: Iterable[str], answer: Callable[[str, Mapping[str, Any]], Response]) -> None:
        """Has calls of these actions answered by the test, not by moto."""
        self._instead |= dict.fromkeys(actions, answer)

    def other_answer(self, action: str, parameters: Mapping[str, Any]) -> Response | None:
        answer = self._instead.get(action)
        return None if answer is None else answer(action, parameters)

    def called(self, action: str) -> list[Mapping[str, Any]]:
        """The parameters of each call of that action."""
        return [parameters for name, parameters in self.calls if name == action]

    def next_refusal(self, action: str) -> Refusal | None:
        waiting = self._refusals.get(action)
        return waiting.pop(0) if waiting else None

    def about_to(self, action: str) -> None:
        if change := self._before.get(action):
            change()

    def reset(self) -> None:
        """Forgets everything."""
        assert httpx.post(f"{self.url}/moto-api/reset", trust_env=False, timeout=60).is_success
        self.calls, self.troubles, self._refusals, self._before, self._instead = [], [], {}, {}, {}


@contextmanager
def serving() -> Iterator[Moto]:
    """A server for as long as the block."""
    inside = DomainDispatcherApplication(create_backend_app)
    moto = Moto("")

    @Request.application
    def outside(request: Request) -> Response:
        action, parameters = _call_of(request)
        if action is None:
            return Response.from_app(inside, request.environ)
        moto.calls.append((action, parameters))
        if refusal := moto.next_refusal(action):
            return _refused(refusal, is_json="X-Amz-Target" in request.headers)
        moto.about_to(action)
        if (other := moto.other_answer(action, parameters)) is not None:
            return other
        answer = Response.from_app(inside, request.environ, buffered=True)
        if answer.status_code >= 500:
            moto.troubles.append(f"{action}: {answer.get_data(as_text=True)[:500]}")
        return answer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = make_server("127.0.0.1", 0, outside, threaded=True)
    moto.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield moto
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _call_of(request: Request) -> tuple[str | None, Mapping[str, Any]]:
    """What AWS's SDK asks for; None for what is no call of it, such as moto's own API."""
    body = request.get_data(cache=False)
    request.environ["wsgi.input"] = io.BytesIO(body)  # for moto
    if target := request.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2], json.loads(body or b"{}")
    if request.mimetype == "application/x-www-form-urlencoded":
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return form.get("Action"), form
    return None, {}


def refusal_in_xml(refusal: Refusal) -> Response:
    """As the services answer that take forms."""
    return _refused(refusal, is_json=False)


def _refused(refusal: Refusal, *, is_json: bool) -> Response:
    if is_json:
        body = json.dumps({"__type": refusal.code, "message": refusal.message})
        return Response(body, refusal.status, content_type="application/x-amz-json-1.1")
    fault = f"<Error><Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message></Error>"
    return Response(f"<ErrorResponse>{fault}</ErrorResponse>", refusal.status, content_type="text/xml")


def named(calls: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """One parameter of each call."""
    return [parameters.get(key) for parameters in calls]
