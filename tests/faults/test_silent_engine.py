"""Something takes connections at the engine's socket and does not answer: an engine that starts, or hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Shop

pytestmark = pytest.mark.engine


class _Gate:
    """A way to the engine that is shut, and may be opened."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self._opened = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
                self._sockets += [client, engine]
                for source, sink in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._opened.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[_Gate]:
    made = _Gate(tmp_path / "gate.sock")
    yield made
    made.close()


def _await_said(shop: Shop, words: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while words not in shop.agent.said():
        assert time.monotonic() < deadline, f"after {within_s} s: {shop.agent.said()!r}"
        assert shop.agent.is_running(), shop.agent.said()
        time.sleep(0.1)


def test_it_is_said_at_once_and_the_agent_starts_when_it_answers(shop: Shop, gate: _Gate) -> None:
    shop.configure()
    environment = {**os.environ, "DOCKER_HOST": gate.url}
    command = shop.agent.command("agent", "start")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as starting:
        assert starting.stderr is not None
        said = starting.stderr.readline()
        assert "takes connections and does not answer; trying again" in said
        gate.open()
        starting.stderr.read()
        assert starting.wait(60) == 0
    try:
        assert shop.agent.run("web", checks=True)["state"] == "success"
    finally:
        assert shop.agent.cli("agent", "stop").returncode == 0


def test_an_agent_that_waits_for_it_can_be_ended(shop: Shop, gate: _Gate) -> None:
    shop.configure()
    shop.agent.spawn(DOCKER_HOST=gate.url)
    _await_said(shop, "does not answer", 20)
    assert shop.agent.process is not None
    shop.agent.process.send_signal(signal.SIGTERM)
    assert shop.agent.process.wait(timeout=20) == 0, shop.agent.said()
