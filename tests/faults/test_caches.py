"""Runs of one service at once, whose caches change under each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of, stages
from harness.invariants import assert_accounted_for, await_cleaned
from seamless.transitions import RUN_ENDED

pytestmark = [
    pytest.mark.engine,
    # httpx leaves the socket of a connection that broke off to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# The first run ends, and writes to the cache, while the second one's container runs: also with an agent between.
SCRIPT = """
echo begun
case $SEAMLESS_RUN in
web-1) echo one >>/cache/runs;;
*) until grep -q yes /over; do sleep 0.1; done; echo ended; cat /cache/runs || true;;
esac
"""


def test_a_cache_that_another_run_changes_is_not_changed_under_a_running_container(shop: Shop, tmp_path: Path) -> None:
    over = tmp_path / "over"
    over.touch()
    service = (
        f"install = '''{SCRIPT}'''\nunit_test = 'cat /cache/runs || echo none'\ncaches = ['/cache']\n"
        f"files = {{ '/over' = '{over}' }}"
    )
    shop.start(f"{service}\nuse_staging = false\nauto_deploy = true")
    agent = shop.agent
    agent.client.start_run("web")
    agent.wait_stage("web-1", "prepare", {"success"})
    agent.client.start_run("web", checks=True)
    agent.wait_log("web-2", "prepare", "begun")
    assert agent.wait_run("web-1", RUN_ENDED)["state"] == "success"
    await_cleaned(agent)  # which puts what it wrote on top of the cache
    agent.kill()
    agent.start()
    over.write_text("yes")
    ended = agent.wait_run("web-2", RUN_ENDED)
    assert ended["state"] == "success", stages(ended)
    assert stage_of(ended, "prepare")["attempt"] == 1
    assert agent.run("web", checks=True)["state"] == "success"
    assert agent.read_log("web-3", "unit_test").splitlines() == ["one"]
    assert_accounted_for(agent)
