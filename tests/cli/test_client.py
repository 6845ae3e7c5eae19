from __future__ import annotations

import os
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamless import connection
from seamless.client import Client
from seamless.connection import ApiVersionError, ConnectionLostError, ServerSentEvents, unreachable
from seamless.errors import (
    AgentUnreachableError,
    ConfigError,
    ForbiddenError,
    NotFoundError,
    ProgrammingError,
    RefusedError,
    SeamlessError,
    UnavailableError,
    UsageError,
)

from .fake_agent import FakeAgent, error, run, stage

pytestmark = pytest.mark.fake


def test_requests_are_those_that_the_api_documents(agent: FakeAgent) -> None:
    for path in ("services/payment/runs", "services/payment/promote", "rollbacks", "runs/payment/approve"):
        agent.answers["POST", path] = (201, run())
    agent.answers["POST", "services/payment/release"] = (204, None)
    with Client(agent.socket) as client:
        client.start_run("payment", checks=True)
        client.promote("payment", release=True)
        client.rollback("7d01c9e", environment="staging")
        client.approve("payment", allow_rewritten=True)
        client.release("payment")
    assert [(method, path, body) for method, path, _, body in agent.requests] == [
        ("POST", "services/payment/runs", b'{"checks":true,"staging":false,"rebuild":false}'),
        ("POST", "services/payment/promote", b'{"release":true,"allow_rewritten":false}'),
        ("POST", "rollbacks", b'{"to":"7d01c9e","environment":"staging"}'),
        ("POST", "runs/payment/approve", b'{"release":false,"allow_rewritten":true}'),
        ("POST", "services/payment/release", b"{}"),
    ]


@pytest.mark.parametrize(
    ("status", "code", "kind", "exit_code"),
    [
        (400, "usage", UsageError, 2),
        (403, "forbidden", ForbiddenError, 5),
        (404, "not_found", NotFoundError, 2),
        (409, "refused", RefusedError, 5),
        (422, "config", ConfigError, 2),
        (500, "internal", ProgrammingError, 1),
        (503, "unavailable", UnavailableError, 1),
        (418, "from the future", SeamlessError, 7),
    ],
)
def test_an_error_keeps_its_kind_words_and_exit_code(
    agent: FakeAgent, status: int, code: str, kind: type[SeamlessError], exit_code: int
) -> None:
    agent.answers["GET", "status"] = (status, error(code, "it is so", "do that", exit_code=exit_code))
    with Client(agent.socket) as client, pytest.raises(kind) as caught:
        client.status()
    assert type(caught.value) is kind or code == "from the future"
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == ("it is so", "do that", exit_code)


@pytest.mark.parametrize("body", ["", [], {"error": "broken"}, {"error": {"code": "usage"}}])
def test_an_error_without_the_documented_shape_is_one_all_the_same(agent: FakeAgent, body: Any) -> None:
    agent.answers["GET", "status"] = (502, body)
    with Client(agent.socket) as client, pytest.raises(ProgrammingError, match="answered 502 without saying why"):
        client.status()


def test_another_version_of_the_api_is_refused_with_what_to_update(agent: FakeAgent) -> None:
    for spoken, hint in (("0", "Update the agent, then: seamless agent stop"), ("2", "Update the seamless command")):
        agent.api = spoken
        agent.answers["GET", "status"] = (200, [])
        with (
            Client(agent.socket) as client,
            pytest.raises(ApiVersionError, match=f"version {spoken} of the API") as caught,
        ):
            client.status()
        assert str(caught.value.hint).startswith(hint)
        assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["../version", "a/b", "", "a?b", "-x", "päyment", "a\n"])
def test_a_name_cannot_become_another_path(agent: FakeAgent, name: str) -> None:
    with Client(agent.socket) as client, pytest.raises(NotFoundError, match="is not the name of"):
        client.run(name)
    assert agent.requests == []


def test_why_nobody_answers(tmp_path: Path) -> None:
    missing = tmp_path / "agent.sock"
    with (
        Client(missing) as client,
        pytest.raises(ConnectionLostError, match=r"no agent answers at .*agent\.sock$") as no,
    ):
        client.status()
    assert no.value.hint == "Start one: seamless agent start"

    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(missing))
    left_behind.close()
    with Client(missing) as client, pytest.raises(ConnectionLostError, match="the one that made it has ended"):
        client.status()

    missing.unlink()
    missing.write_text("")
    with Client(missing) as client, pytest.raises(AgentUnreachableError, match="is not a socket"):
        client.status()

    with pytest.raises(ConfigError, match="the system allows 107"):
        Client(Path("/x" * 60))


def test_permission_denied_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    monkeypatch.setattr(connection, "_group_of", lambda path: 1)
    denied = unreachable(tmp_path / "agent.sock", PermissionError(13, "Permission denied"))
    assert denied.message.startswith(f"{tmp_path} is open to the group ")
    assert "usermod -aG" in str(denied.hint)
    assert not isinstance(denied, ConnectionLostError)  # trying again would not help

    monkeypatch.setattr(connection, "_group_of", lambda path: 0)
    denied = unreachable(tmp_path / "agent.sock", PermissionError(13, "Permission denied"))
    assert denied.message == f"{tmp_path} is open to root only"
    assert "usermod" not in str(denied.hint)


def test_what_is_not_an_agent_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

        threading.Thread(target=answer, daemon=True).start()
        with Client(path) as client, pytest.raises(AgentUnreachableError, match="is not a Seamless agent"):
            client.status()


def test_a_request_that_takes_too_long_ends(agent: FakeAgent) -> None:
    over = threading.Event()

    def slow() -> tuple[int, Any]:
        over.wait(60)
        return 200, []

    agent.answers["GET", "status"] = slow
    with (
        Client(agent.socket, timeout_s=0.1) as client,
        pytest.raises(ConnectionLostError, match="does not answer in time"),
    ):
        client.status()
    over.set()


@pytest.mark.parametrize("overlap", [0, 2])
def test_events_are_neither_lost_nor_doubled_when_streams_break(agent: FakeAgent, overlap: int) -> None:
    agent.runs["payment-42"] = run(stages=[stage("prepare")])
    agent.cut_after = 3 + overlap
    agent.overlap = overlap
    for _ in range(4):
        agent.move("payment-42", "in_progress", stage="prepare")
    changes: list[SeamlessError | None] = []
    with Client(agent.socket) as client:
        stream = client.stream_events(run="payment-42", after=0, on_change=changes.append)
        seen = [next(stream)["id"] for _ in range(4)]
        for _ in range(6):
            agent.move("payment-42", "in_progress", stage="prepare")
        seen += [next(stream)["id"] for _ in range(6)]
    assert seen == list(range(1, 11))
    assert agent.streams >= 3
    assert [type(change) for change in changes] == (agent.streams - 1) * [ConnectionLostError, type(None)]


def test_streams_outlive_a_restart_of_the_agent(agent: FakeAgent, tmp_path: Path) -> None:
    path = agent.socket.with_name("b.sock")
    first = FakeAgent(path)
    first.runs["payment-42"] = run(stages=[stage("prepare", "in_progress")])
    first.cut_after = 1
    with Client(path) as client:
        with first.serving():
            first.move("payment-42", "in_progress")
            events = client.stream_events(run="payment-42", after=0)
            assert next(events)["id"] == 1
            first.move("payment-42", "success")

        def come_back() -> None:
            time.sleep(0.4)
            first.cut_after = 1 << 30
            with first.serving():
                back.wait(60)

        back = threading.Event()
        thread = threading.Thread(target=come_back)
        thread.start()
        assert next(events)["id"] == 2
        back.set()
        thread.join()


def test_patience_ends(tmp_path: Path) -> None:
    with Client(tmp_path / "none") as client:
        began = time.monotonic()
        with pytest.raises(AgentUnreachableError, match="no agent answers"):
            next(client.stream_events(after=0, patience_s=0.3))
        assert time.monotonic() - began >= 0.3


def test_a_followed_log_comes_once_byte_for_byte_when_streams_break(agent: FakeAgent) -> None:
    agent.runs["payment-42"] = run(stages=[stage("build", "in_progress")])
    agent.cut_after = 41
    written = bytes(range(256)) * 2

    def write() -> None:
        for at in range(0, len(written), 100):
            agent.write("payment-42", "build", written[at : at + 100])
            time.sleep(0.02)
        agent.move("payment-42", "success", stage="build")

    thread = threading.Thread(target=write)
    thread.start()
    with Client(agent.socket) as client:
        assert b"".join(client.follow_log("payment-42", "build", offset=5)) == written[5:]
        assert b"".join(client.log("payment-42", "build", offset=3, limit=4)) == written[3:7]
        assert client.log_size("payment-42", "build") == len(written)
    thread.join()
    assert agent.streams > 10


def test_a_client_that_another_thread_closes_ends_its_streams(agent: FakeAgent) -> None:
    agent.runs["payment-42"] = run(stages=[stage("prepare")])
    agent.cut_after = 1
    agent.move("payment-42", "in_progress")
    client = Client(agent.socket)
    stream = client.stream_events(after=0)
    next(stream)
    agent.move("payment-42", "success")
    client.close()
    with pytest.raises(AgentUnreachableError, match="closed by this program"):
        next(stream)


def test_closing_wakes_who_waits_for_a_stream(agent: FakeAgent) -> None:
    agent.runs["payment-42"] = run(stages=[stage("prepare", "in_progress")])
    agent.write("payment-42", "prepare", b"one")
    client = Client(agent.socket)
    begun = threading.Event()

    def read() -> None:
        stream = client.follow_log("payment-42", "prepare")
        assert next(stream) == b"one"
        begun.set()
        with pytest.raises(AgentUnreachableError):
            next(stream)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(10)
    client.close()
    reader.join(10)
    assert not reader.is_alive()


def test_a_local_tree_is_streamed(agent: FakeAgent) -> None:
    agent.answers["POST", "services/payment/local-runs"] = (201, run())
    with Client(agent.socket) as client:
        client.start_local_run("payment", iter([b"abc", b"def"]), commit="9f3c2ab")
    assert agent.requests == [("POST", "services/payment/local-runs", {"commit": "9f3c2ab"}, b"abcdef")]


@settings(deadline=None)
@given(
    messages=st.lists(
        st.tuples(st.integers(0, 10**12), st.text(st.characters(codec="utf-8", exclude_characters="\n\r")))
    ),
    cuts=st.lists(st.integers(0, 2000)),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_events_come_out_of_a_stream_that_is_cut_anywhere(
    messages: list[tuple[int, str]], cuts: list[int], end: str
) -> None:
    lines = [f": beat{end}{end}"]
    lines += [f"id: {id}{end}event: run{end}data: {data}{end}{end}" for id, data in messages]
    stream = "".join(lines).encode()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = ServerSentEvents()
    found = [event for a, b in pairwise(edges) for event in parser.feed(stream[a:b])]
    assert [(event.id, event.data) for event in found] == messages


def test_an_error_deep_in_the_agent_is_told_although_it_bears_no_version(agent: FakeAgent) -> None:
    agent.api = ""
    agent.answers["GET", "status"] = (500, error("internal", "an error in Seamless itself: KeyError"))
    with Client(agent.socket) as client, pytest.raises(ProgrammingError, match="an error in Seamless itself"):
        client.status()
