"""The HTTP API: one shape of errors, one of everything else, and streams that lose nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from e2e.conftest import Shop, until
from seamless import wire, wire_logs
from seamless.agent.api import Api, create_app
from seamless.transitions import RUN_ENDED


@pytest.fixture
def http(shop: Shop) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(shop.agent.socket))
    with httpx.Client(transport=transport, base_url="http://agent", timeout=60) as client:
        yield client


def check(shape: Any, answer: httpx.Response) -> Any:
    """The answer's JSON, which must have exactly the keys and types of `shape`."""
    assert answer.is_success, answer.text
    assert answer.headers["Seamless-API"] == "1"
    value = answer.json()
    TypeAdapter(shape).validate_json(answer.content, strict=True)
    _check_keys(shape, value)
    return value


def _is_typed_dict(shape: Any) -> bool:
    return isinstance(shape, type) and hasattr(shape, "__required_keys__")


def _check_keys(shape: Any, value: Any) -> None:
    """Keys are always present, and there are no others."""
    if _is_typed_dict(shape):
        assert set(value) == set(shape.__annotations__)
    elif getattr(shape, "__origin__", None) is list:
        for item in value:
            _check_keys(shape.__args__[0], item)


@pytest.mark.engine
def test_answers_have_the_shapes_of_wire(shop: Shop, http: httpx.Client) -> None:
    agent = shop.agent
    shop.start("use_staging = false")
    first = shop.repository.git("rev-parse", "HEAD")
    check(wire.VersionJSON, http.get("/v1/version"))
    check(list[wire.ServiceJSON], http.get("/v1/services"))
    check(wire.RunJSON, http.post("/v1/services/web/runs", json={}))
    agent.wait_run("web-1")
    shown = check(wire.RunJSON, http.get("/v1/runs/web"))
    assert set(shown["approval"]) == set(wire.ApprovalJSON.__annotations__)
    assert set(shown["approval"]["image"]) == set(wire.ImageJSON.__annotations__)
    check(list[wire.ServiceStatusJSON], http.get("/v1/status"))
    check(wire.RunJSON, http.post("/v1/runs/web/approve", json={}))
    agent.wait_run("web-1", RUN_ENDED)
    check(list[wire.ImageJSON], http.get("/v1/images", params={"service": "web"}))
    check(wire.HoldJSON, http.post("/v1/services/web/hold", json={"why": "x"}))
    (status,) = check(list[wire.ServiceStatusJSON], http.get("/v1/status"))
    assert set(status["production"]) == set(wire.ReleaseJSON.__annotations__)
    assert status["production"]["commit"] == first
    check(list[wire.EventJSON], http.get("/v1/events", params={"limit": 1000}))
    check(list[wire.RunJSON], http.get("/v1/runs"))
    newest = check(list[wire.EventJSON], http.get("/v1/events", params={"before": 10**9, "limit": 3}))
    assert [one["id"] for one in newest] == sorted([one["id"] for one in newest], reverse=True)
    (deployed,) = check(list[wire.DeploymentJSON], http.get("/v1/deployments", params={"service": "web"}))
    assert (deployed["environment"], deployed["commit"], deployed["state"]) == ("production", first, "success")
    assert http.get("/v1/deployments", params={"environment": "staging"}).json() == []
    (only,) = check(list[wire.ServiceStatusJSON], http.get("/v1/status", params={"service": "web"}))
    assert only == http.get("/v1/status").json()[0]
    log = "/v1/runs/web-1/stages/build/log"
    text = http.get(log).text
    found = check(
        wire_logs.LogSearchJSON, http.get(f"{log}/search", params={"pattern": "dockerfile", "ignore_case": True})
    )
    assert found["finished"]
    assert found["matches"]
    assert set(found["matches"][0]) == set(wire_logs.LogMatchJSON.__annotations__)
    assert text.encode()[found["matches"][0]["offset"] :].decode().startswith(found["matches"][0]["text"])
    position = check(wire_logs.LogPositionJSON, http.get(f"{log}/position", params={"line": 2}))
    assert position["offset"] == text.index("\n") + 1
    assert position == http.get(f"{log}/position", params={"offset": position["offset"]}).json()
    assert http.get(f"{log}/position", params={"at": "2000-01-01T00:00:00Z"}).json()["line"] == 1
    again = check(wire.RunJSON, http.post("/v1/rollbacks", json={"to": first}))
    agent.wait_run(again["id"])
    assert http.post("/v1/services/web/release").status_code == 204
    parameters = http.get("/v1/services/web").json()
    assert set(parameters) == {"service", "parameters", "sources"}


@pytest.mark.engine
def test_errors_have_one_shape(shop: Shop, http: httpx.Client) -> None:
    shop.start()
    long = "x" * 300
    cases = [
        ("GET", "/v1/runs/web-1", {}, 404, "not_found", 2),
        ("GET", "/v1/nowhere", {}, 404, "not_found", 2),
        ("GET", "/v1/services/nothing", {}, 404, "not_found", 2),
        ("PUT", "/v1/status", {}, 405, "not_found", 2),
        ("POST", "/v1/services/web/hold", {"json": {}}, 400, "usage", 2),
        ("POST", "/v1/services/web/hold", {"json": {"why": 3}}, 400, "usage", 2),
        ("POST", "/v1/services/web/runs", {"content": b"{"}, 400, "usage", 2),
        ("POST", "/v1/services/web/runs", {"json": {"ref": "-x"}}, 400, "usage", 2),
        ("POST", "/v1/services/web/runs", {"json": {"ref": "no-such-branch"}}, 400, "usage", 2),
        ("POST", "/v1/services/web/runs", {"json": {"ref": "f" * 40}}, 400, "usage", 2),
        ("POST", "/v1/rollbacks", {"json": {}}, 400, "usage", 2),
        ("POST", "/v1/rollbacks", {"json": {"to": "abcd", "environment": "moon"}}, 400, "usage", 2),
        ("GET", "/v1/runs?limit=0", {}, 400, "usage", 2),
        ("GET", "/v1/runs?state=odd", {}, 400, "usage", 2),
        ("GET", "/v1/runs?before=web-9", {}, 404, "not_found", 2),
        ("GET", f"/v1/runs/{long}", {}, 404, "not_found", 2),
        ("GET", "/v1/deployments?environment=moon", {}, 400, "usage", 2),
        ("GET", "/v1/status?service=nothing", {}, 404, "not_found", 2),
        ("GET", "/v1/runs/web/stages/build/log/search?pattern=x", {}, 404, "not_found", 2),
        ("POST", "/v1/services/web/release", {}, 409, "refused", 5),
        ("POST", "/v1/services/web/local-runs?commit=x", {}, 400, "usage", 2),
        ("POST", "/v1/github/token", {"json": {"token": "", "store": False}}, 400, "usage", 2),
    ]
    for method, path, request, status, code, exit_code in cases:
        answer = http.request(method, path, **request)  # type: ignore[arg-type]
        assert (path, answer.status_code) == (path, status)
        (error,) = answer.json().values()
        assert (error["code"], error["exit_code"]) == (code, exit_code)
        assert set(error) == set(wire.ErrorBody.__annotations__)
        assert error["message"]
        assert answer.headers["Seamless-API"] == "1"


@pytest.mark.engine
def test_a_client_of_another_version_is_told(shop: Shop, http: httpx.Client) -> None:
    shop.start()
    answer = http.get("/v1/version", headers={"Seamless-API": "2"})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "version"
    assert "install the same version" in answer.json()["error"]["hint"]
    assert answer.headers["Seamless-API"] == "1"


@pytest.mark.engine
def test_the_openapi_document_describes_every_route(shop: Shop, http: httpx.Client) -> None:
    shop.start()
    document = http.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.")
    text = json.dumps(document)
    for name in ("RunJSON", "StageJSON", "EventJSON", "ServiceStatusJSON", "ApprovalJSON"):
        assert name in text
    assert {"/v1/version", "/v1/runs/{run}/approve", "/v1/events/stream"} <= set(document["paths"])


class _Broken:
    """Resources, operations and a presenter that fail at whatever is asked of them."""

    def __getattr__(self, name: str) -> Any:
        if name in ("resources", "operations", "presenter", "store", "logs", "config", "events"):
            return self
        raise RuntimeError("a secret detail")

    def __call__(self) -> Any:
        return self


def test_an_error_of_our_own_has_the_shape_of_all_and_tells_no_details() -> None:
    broken: Any = _Broken()
    app = create_app(Api(**{field.name: broken for field in dataclasses.fields(Api)}))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            return await client.get("/v1/status")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["code"] in ("error", "internal")
    assert "a secret detail" not in answer.text
    assert answer.headers["Seamless-API"] == "1", "without it, the client takes us for something else"


class Message(TypedDict):
    id: int
    data: str


def _messages(answer: httpx.Response) -> Iterator[Message]:
    number = 0
    for line in answer.iter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield {"id": number, "data": line[6:]}


@pytest.mark.engine
def test_the_event_stream_resumes_without_loss(shop: Shop, http: httpx.Client) -> None:
    shop.start()
    shop.agent.run("web", checks=True)
    everything = [event["id"] for event in shop.agent.client.events(limit=1000)]
    heard: list[int] = []
    headers: dict[str, str] = {}
    while len(heard) < len(everything):  # three at a time, as if the connection were lost each time
        with http.stream("GET", "/v1/events/stream", params={"after": 0}, headers=headers) as answer:
            for message in itertools.islice(_messages(answer), min(3, len(everything) - len(heard))):
                assert json.loads(message["data"])["id"] == message["id"]
                heard.append(message["id"])
        headers["Last-Event-ID"] = str(heard[-1])
    assert heard == everything


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_streams_outlive_the_agent(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('unit_test = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.5; done"')
    client.start_run("web", checks=True)
    agent.wait_log("web-1", "unit_test", "line 1")
    read: list[bytes] = []
    follower = threading.Thread(target=lambda: read.extend(client.follow_log("web-1", "unit_test")))
    follower.start()
    until(lambda: b"line 2" in b"".join(read))
    agent.kill()
    agent.start()
    follower.join(timeout=60)
    assert not follower.is_alive()
    log = b"".join(read).decode()
    assert [line for line in log.splitlines() if line.startswith("line")] == [f"line {n}" for n in range(1, 9)]
    assert log == agent.read_log("web-1", "unit_test")
    offset = log.index("line 5")
    assert b"".join(client.log("web-1", "unit_test", offset=offset)).decode() == log[offset:]
    assert b"".join(client.log("web-1", "unit_test", offset=offset, limit=6)) == b"line 5"
    assert b"".join(client.log("web-1", "unit_test", offset=len(log) + 100)) == b""
    assert client.log_size("web-1", "unit_test") == len(log.encode())
    times = client.log_times("web-1", "unit_test")
    assert times == sorted(times)
