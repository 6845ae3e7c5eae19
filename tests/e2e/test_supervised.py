"""An agent under a manager that speaks systemd's protocol; a configuration that is read again on somebody's word."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator

import pytest

from e2e.conftest import Shop

pytestmark = pytest.mark.engine


class Manager:
    """Takes what is told at once, as systemd does: the kernel holds a few messages only, and drops the rest."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._told: queue.Queue[str] = queue.Queue()

    def listen(self, end: socket.socket) -> None:
        while told := end.recv(200):
            self._told.put(told.decode())

    def wait(self, beginning: str) -> None:
        """Until something is told that begins so."""
        while not self._told.get(timeout=60).startswith(beginning):
            pass


@pytest.fixture
def manager(shop: Shop) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(shop.agent.socket.with_name("notify")))
        one = Manager(end.getsockname())
        listening = threading.Thread(target=one.listen, args=(end,))
        listening.start()
        yield one
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", one.path)
        listening.join()


def test_ready_pings_reload_and_stop(shop: Shop, manager: Manager) -> None:
    shop.configure()
    shop.agent.spawn(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="3000000")
    manager.wait("READY=1")
    assert shop.agent.is_ready(), "told to be ready, and is not"
    manager.wait("WATCHDOG=1")

    shop.configure("unit_tets = 1")
    done = shop.agent.cli("agent", "reload")
    assert done.returncode == 2
    assert "did you mean unit_test?" in done.stderr
    shop.configure('unit_test = "true"')
    done = shop.agent.cli("agent", "reload")
    assert (done.returncode, done.stdout) == (0, f"{shop.agent.config_file} is in force\n")
    assert shop.agent.client.service("web")["parameters"]["unit_test"] == "true"
    assert {event["name"] for event in shop.agent.client.events(kind="config")} == {"reload", "refuse"}

    checked = shop.agent.cli("check", "--json")
    assert checked.returncode == 0, checked.stdout
    assert '"services.web.repo"' in checked.stdout
    examined = shop.agent.cli("doctor")
    assert f"pid {shop.agent.client.version()['pid']}" in examined.stdout
    assert "Docker Engine" in examined.stdout

    shop.agent.stop()
    manager.wait("STOPPING=1")
