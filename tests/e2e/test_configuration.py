"""The configuration in force: reloaded when it is good, kept when it is not."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import Shop
from harness.agents import Agent
from seamless.errors import NotFoundError
from seamless.transitions import RUN_ENDED
from seamless.wire import EventJSON

pytestmark = pytest.mark.engine


def _next_reload(agent: Agent, after: int) -> EventJSON:
    """The next event of the configuration."""
    for event in agent.client.stream_events(after=after):
        if event["kind"] == "config":
            return event
    raise AssertionError


def test_a_good_one_is_taken_up_and_a_broken_one_is_told(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('unit_test = "echo one"')
    shop.configure('unit_test = "echo two"')
    event = _next_reload(agent, 0)
    assert event["name"] == "reload"
    agent.run("web", checks=True)
    assert agent.read_log("web-1", "unit_test").endswith("two\n")

    shop.configure('unit_tets = "echo three"')
    event = _next_reload(agent, event["id"])
    assert event["name"] == "refuse"
    assert "unit_test" in (event["reason"] or "")
    told = client.version()["config_error"]
    assert told is not None
    assert "unit_tets" in told
    assert "the configuration file has mistakes" in agent.cli("status").stderr
    agent.run("web", checks=True)
    assert agent.read_log("web-2", "unit_test").endswith("two\n")

    agent.config_file.rename(agent.config_file.with_suffix(".away"))
    event = _next_reload(agent, event["id"])
    assert event["name"] == "refuse"
    shop.configure('unit_test = "echo two"')  # as it is in force: nothing is to be taken up, but the error is over
    deadline = time.monotonic() + 60
    while client.version()["config_error"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_needs_a_restart_says_so(shop: Shop) -> None:
    shop.start()
    text = shop.agent.config_file.read_text().replace('data_dir = "data"', 'data_dir = "elsewhere"')
    shop.agent.config_file.write_text(text)
    event = _next_reload(shop.agent, 0)
    assert event["name"] == "refuse"
    assert "agent.data_dir" in (event["reason"] or "")
    shop.configure()


def test_a_run_ends_on_the_parameters_it_began_with_even_if_its_service_is_gone(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('install = "echo begun; sleep 3"\nunit_test = "echo old"')
    client.start_run("web", checks=True)
    agent.wait_log("web-1", "prepare", "begun")
    agent.configure(f'[services.other]\nrepo = "{shop.repository.path}"')
    _next_reload(agent, 0)
    assert agent.wait_run("web-1", RUN_ENDED)["state"] == "success"
    assert agent.read_log("web-1", "unit_test").endswith("old\n")
    assert [status["service"] for status in client.status()] == ["other"]
    with pytest.raises(NotFoundError, match="there is no service web") as refused:
        client.start_run("web")
    assert "other" in (refused.value.hint or "")
    assert [run["id"] for run in client.runs(service="web")] == ["web-1"]
