"""An agent under a manager that speaks systemd's protocol; a configuration that is read again on somebody's word."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from e2e.conftest import Shop

pytestmark = pytest.mark.engine


@pytest.fixture
def manager(shop: Shop) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(shop.agent.socket.with_name("notify")))
        one.settimeout(60)
        yield one


def test_ready_pings_reload_and_stop(shop: Shop, manager: socket.socket) -> None:
    shop.configure()
    shop.agent.spawn(NOTIFY_SOCKET=str(manager.getsockname()), WATCHDOG_USEC="3000000")
    told: list[str] = []
    while not told or not told[-1].startswith("READY=1"):
        told.append(manager.recv(200).decode())
    assert shop.agent.is_ready(), "told to be ready, and is not"
    while told[-1] != "WATCHDOG=1":
        told.append(manager.recv(200).decode())

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
    while not told[-1].startswith("STOPPING=1"):
        told.append(manager.recv(200).decode())
