"""An engine that takes connections and does not answer, since it starts or hangs, and one that is away for a while."""

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
from harness.agents import stage_of, stages
from harness.invariants import assert_accounted_for

pytestmark = pytest.mark.engine


class _Gate:
    """A way to the engine that is shut, and may be opened."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self._opened = threading.Event()
        self._away = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        self._away = False
        self._opened.set()

    def go_away(self) -> None:
        """Hangs up on everybody, also on those who are connected, until it is opened."""
        self._away = True
        self._hang_up()

    def close(self) -> None:
        self._opened.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        while self._sockets:
            each = self._sockets.pop()
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._away:
                    client.close()
                    continue
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
    assert shop.agent.process.wait(timeout=60) == 0, shop.agent.said()


def test_a_stage_that_begins_while_it_is_away_waits_for_it(shop: Shop, gate: _Gate) -> None:
    gate.open()
    shop.configure("unit_test = 'echo tested'")
    shop.agent.start(DOCKER_HOST=gate.url)
    gate.go_away()
    shop.agent.client.start_run("web", checks=True)
    shop.agent.wait_log("web-1", "unit_test", "waiting for the Docker Engine: ")
    gate.open()
    run = shop.agent.wait_run("web-1")
    assert run["state"] == "success", stages(run)
    assert stage_of(run, "unit_test")["attempt"] == 1
    told = shop.agent.read_log("web-1", "unit_test").splitlines()
    assert told[-1] == "tested"
    assert "seamless: the Docker Engine answers again" in told
    shop.agent.restart()  # by the engine itself
    assert_accounted_for(shop.agent)
