"""The far end of the client: an HTTP server on a Unix socket that answers as docs/api.md says, from a script."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ENDED = ("success", "failure", "skipped", "cancelled")
Answer = tuple[int, Any]


def stage(name: str, state: str = "idle", **more: Any) -> dict[str, Any]:
    """A StageJSON."""
    unknown = ("reason", "exit_code", "started_at", "ended_at", "waits_for", "usual_s")
    return {"name": name, "state": state, "attempt": 0, **dict.fromkeys(unknown), "detail": {}, **more}


def run(id: str = "payment-42", state: str = "idle", **more: Any) -> dict[str, Any]:
    """A RunJSON."""
    service, _, number = id.rpartition("-")
    return {
        "id": id,
        "service": service,
        "number": int(number),
        "trigger": "manual",
        "trust": "trusted",
        "commit": "9f3c2ab" + "0" * 33,
        "ref": "refs/heads/main",
        "subject": "Retry card declines",
        "author": "Ann",
        "state": state,
        "reason": None,
        "requested_by": "ann",
        "rerun_of": None,
        "created_at": "2026-12-03T14:02:10+00:00",
        "started_at": None,
        "ended_at": None,
        "cancel_requested": None,
        "stages": [],
        "approval": None,
        "merge": None,
        **more,
    }


def error(code: str, message: str, hint: str | None = None, exit_code: int = 1) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint, "exit_code": exit_code}}


_VERSION = {
    "api": 1,
    "version": "0.1.0",
    "pid": 7,
    "ready": True,
    "config_file": "/c",
    "config_error": None,
    "data_dir": "/d",
    "trouble": [],
}


class FakeAgent:
    """Set `answers[method, path]`; change runs with `move`, which makes the event as the agent would."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.api = "1"
        self.headers: dict[str, str] = {}  # of every answer
        self.answers: dict[tuple[str, str], Answer | Callable[[], Answer]] = {("GET", "version"): (200, _VERSION)}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.logs: dict[tuple[str, str], bytes] = {}
        self.events: list[dict[str, Any]] = []
        self.ndjson: dict[str, list[dict[str, Any]]] = {}  # path -> the lines of its stream
        self.changed = threading.Condition()
        self.cut_after = 1 << 30  # a stream is broken off after so many messages, or bytes of a log
        self.overlap = 0  # so many events before those that were asked for are sent again
        self.streams = 0
        self.search_bytes = 1 << 30  # a search looks through so much of a log at once,
        self.searches: threading.Semaphore | None = None  # and waits for this one each time
        self.is_away = False  # every connection is closed without an answer

    def move(
        self, id: str, to_state: str, *, stage: str | None = None, name: str = "", at: str = "", **more: Any
    ) -> None:
        """Put a run, or one of its stages, into a state, at a time of 3 December 2026 given as `14:02:11`."""
        with self.changed:
            found = self.runs[id]
            if stage:
                found = next(one for one in found["stages"] if one["name"] == stage)
            event = {
                "id": len(self.events) + 1,
                "at": f"2026-12-03T{at or '14:02:11'}+00:00",
                "kind": "stage" if stage else "run",
                "service": self.runs[id]["service"],
                "run": id,
                "stage": stage,
                "name": name
                or {"in_progress": "start", "success": "succeed", "failure": "fail"}.get(to_state, to_state),
                "from_state": found["state"],
                "to_state": to_state,
                "reason": more.get("reason"),
                "actor": None,
                "data": {},
            }
            when = {"in_progress": {"started_at": event["at"]}, "idle": {}}.get(to_state, {"ended_at": event["at"]})
            found.update(state=to_state, **when, **more)
            self.events.append(event)
            self.changed.notify_all()

    def write(self, id: str, stage: str, data: bytes) -> None:
        with self.changed:
            self.logs[id, stage] = self.logs.get((id, stage), b"") + data
            self.changed.notify_all()

    @contextmanager
    def serving(self) -> Iterator[FakeAgent]:
        server = _Server(str(self.socket), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            self.socket.unlink(missing_ok=True)
            thread.join()


def search(log: bytes, pattern: str, start: int, *, backwards: bool, limit: int, at_once: int) -> dict[str, Any]:
    """As the agent searches: whole lines of about `at_once` bytes, from `start` on or before it."""
    matches: list[dict[str, Any]] = []
    lines, offset = [], 0
    for line in log.splitlines(keepends=True):
        lines.append((offset, line))
        offset += len(line)
    wanted = (
        [one for one in reversed(lines) if one[0] < start] if backwards else [one for one in lines if one[0] >= start]
    )
    reached, looked = start, 0
    for offset, line in wanted:
        if re.search(pattern, line.decode(), re.IGNORECASE):
            if len(matches) == limit:
                reached = matches[-1]["offset"] + (not backwards)
                break
            matches.append({"offset": offset, "text": line.decode().removesuffix("\n")})
        reached, looked = offset if backwards else offset + len(line), looked + len(line)
        if looked >= at_once:
            break
    else:
        reached = 0 if backwards else len(log)
    return {
        "matches": matches,
        "reached": reached,
        "finished": reached <= 0 if backwards else reached >= len(log),
        "size": len(log),
    }


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no failure of the test."""


def _handler(agent: FakeAgent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "client"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            if agent.is_away:
                return self._break_off()
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            path = url.path.removeprefix("/v1/")
            agent.requests.append((self.command, path, query, self._body()))
            if scripted := agent.answers.get((self.command, path)):
                return self._json(*(scripted() if callable(scripted) else scripted))
            parts = path.split("/")
            if path == "events/stream":
                return self._events(
                    int(query.get("after") or self.headers.get("Last-Event-ID") or 0) - agent.overlap, query
                )
            if path in agent.ndjson:
                return self._lines(agent.ndjson[path])
            if path == "events":
                after, limit, kind = int(query["after"]), int(query["limit"]), query.get("kind")
                events = [one for one in agent.events if kind in (None, one["kind"])]
                if "before" in query:
                    return self._json(200, [one for one in events[::-1] if one["id"] < int(query["before"])][:limit])
                return self._json(200, [one for one in events if one["id"] > after][:limit])
            if parts[0] == "runs" and parts[-1] == "log" and parts[1] in agent.runs:
                return self._log(parts[1], parts[3], query)
            if parts[0] == "runs" and parts[-1] == "search":
                return self._search(parts[1], parts[3], query)
            if parts[0] == "runs" and len(parts) == 2 and parts[1] in agent.runs:
                return self._json(200, agent.runs[parts[1]])
            return self._json(404, error("not_found", f"there is no {path}", exit_code=2))

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _json(self, status: int, value: Any) -> None:
            body = b"" if status == 204 else json.dumps(value).encode()
            self._head(status, "application/json", {"Content-Length": str(len(body))})
            self.wfile.write(body)

        def _head(self, status: int, kind: str, more: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Seamless-API": agent.api, "Content-Type": kind, **agent.headers, **more}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def _break_off(self) -> None:
            self.close_connection = True

        def _events(self, after: int, query: dict[str, str]) -> None:
            agent.streams += 1
            self._head(200, "text/event-stream", {"Transfer-Encoding": "chunked"})
            sent = 0
            self._chunk(b": hello\n\n")
            while True:
                with agent.changed:
                    if not (new := [one for one in agent.events if one["id"] > after]):
                        agent.changed.wait(5)
                for one in new:
                    if sent == agent.cut_after:
                        return self._break_off()
                    after = one["id"]
                    if query.get("run") in (None, one["run"]):
                        data = json.dumps(one, ensure_ascii=False)
                        self._chunk(f"id: {one['id']}\nevent: {one['kind']}\ndata: {data}\n\n".encode())
                        sent += 1

        def _lines(self, lines: list[dict[str, Any]]) -> None:
            agent.streams += 1
            self._head(200, "application/x-ndjson", {"Transfer-Encoding": "chunked"})
            for number, line in enumerate(lines):
                if number == agent.cut_after:
                    agent.cut_after = 1 << 30
                    return self._break_off()
                self._chunk(json.dumps(line).encode() + b"\n")
            return self._chunk(b"")

        def _search(self, id: str, stage: str, query: dict[str, str]) -> None:
            if agent.searches is not None:
                agent.searches.acquire()
            stored = agent.logs.get((id, stage), b"")
            answer = search(
                stored,
                query["pattern"],
                int(query["offset"]),
                backwards=query["backwards"] == "true",
                limit=int(query["limit"]),
                at_once=agent.search_bytes,
            )
            self._json(200, answer)

        def _log(self, id: str, stage: str, query: dict[str, str]) -> None:
            offset, limit = int(query.get("offset", 0)), int(query.get("limit", 1 << 30))
            stored = agent.logs.get((id, stage), b"")
            self._head(
                200,
                "application/octet-stream",
                {"Transfer-Encoding": "chunked", "Seamless-Log-Size": str(len(stored))},
            )
            if query.get("follow") != "true":
                if part := stored[offset : offset + limit]:
                    self._chunk(part)
                return self._chunk(b"")
            agent.streams += 1
            end = offset + agent.cut_after
            while True:
                with agent.changed:
                    ended = next(one for one in agent.runs[id]["stages"] if one["name"] == stage)["state"] in ENDED
                    part = agent.logs.get((id, stage), b"")[offset:end]
                    if not part and not ended:
                        agent.changed.wait(1)
                        continue
                if part:
                    self._chunk(part)
                    offset += len(part)
                if offset == end:
                    return self._break_off()
                if ended and offset >= len(agent.logs.get((id, stage), b"")):
                    return self._chunk(b"")

    return Handler
