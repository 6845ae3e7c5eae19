"""Serves a scripted service of AWS over HTTP, in AWS's JSON protocol, with faults by operation (X-Amz-Target)."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, Protocol

Fault = Literal["throttle", "drop", "lost", "500", "expired", "denied", "unknown"]
"""`drop` breaks the connection before the effect, `lost` after it; the others are answers, without an effect."""


class FarEnd(Protocol):
    """What is served: one call at a time, under `lock`."""

    requests: list[tuple[str, dict[str, Any]]]

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Raises RefusalError."""

    def fault(self, operation: str) -> Fault | None:
        """What happens to this call instead, or to its answer."""


class RefusalError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_FAULTS: Final[Mapping[str, tuple[int, str]]] = {
    "throttle": (400, "ThrottlingException"),
    "500": (500, "ServerException"),
    "expired": (400, "ExpiredTokenException"),
    "denied": (400, "AccessDeniedException"),
    "unknown": (400, "UnrecognizedClientException"),
}


@contextmanager
def serving(of: Callable[[], FarEnd]) -> Iterator[str]:
    """The URL at which it answers; `of` says which one does at the moment."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            target = self.headers.get("X-Amz-Target")
            if target is None:  # a service of another protocol, such as IAM
                self._send(403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error>"
                                "</ErrorResponse>", "text/xml")  # fmt: skip
                return
            operation = target.rpartition(".")[2]
            far_end = of()
            with far_end.lock:
                fault = far_end.fault(operation)
                if fault == "drop":
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                if fault is not None and fault in _FAULTS:
                    status, code = _FAULTS[fault]
                    self._send_error(status, code, f"{code} by script")
                    return
                asked = json.loads(body)
                far_end.requests.append((operation, copy.deepcopy(asked)))
                try:
                    answer = far_end.answer(operation, asked)
                except RefusalError as refused:
                    self._send_error(400, refused.code, str(refused))
                    return
            if fault == "lost":
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self._send(200, json.dumps(answer), "application/x-amz-json-1.1")

        def _send_error(self, status: int, code: str, message: str) -> None:
            self._send(status, json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1")

        def _send(self, status: int, content: str, kind: str) -> None:
            data = content.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
