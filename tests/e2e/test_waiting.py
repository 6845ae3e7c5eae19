"""A stage that is next and does not start: what it waits for is told wherever the run is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e.conftest import Shop, until
from harness.agents import stage_of
from seamless.transitions import RUN_ENDED

pytestmark = pytest.mark.engine


def _waits_for(shop: Shop, run: str, stage: str) -> str | None:
    return stage_of(shop.agent.client.run(run), stage)["waits_for"]


def test_for_a_slot(shop: Shop, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    go_on.touch()
    shop.start(
        f"install = 'echo begun; until grep -q now {go_on}; do sleep 0.1; done'\nfiles = {{ '{go_on}' = '{go_on}' }}",
        agent="max_parallel_runs = 1",
    )
    shop.agent.client.start_run("web", checks=True)
    shop.agent.wait_log("web-1", "prepare", "begun")
    told = "a slot (agent.max_parallel_runs is 1)"
    with subprocess.Popen(shop.agent.command("run", "web", "--checks"), stdout=subprocess.PIPE, text=True) as following:
        try:
            until(lambda: len(shop.agent.client.runs()) == 2)
            until(lambda: _waits_for(shop, "web-2", "prepare"))
            assert _waits_for(shop, "web-2", "prepare") == told
            assert _waits_for(shop, "web-2", "unit_test") is None
            shown = shop.agent.cli("show", "web-2").stdout
        finally:
            go_on.write_text("now")
            printed, _ = following.communicate(timeout=60)
    (line,) = [line for line in shown.splitlines() if "waits" in line]
    assert line.split() == ["○", "prepare", "waits", "for", *told.split()]
    assert f"web-2 prepare waits for {told}\n" in printed
    assert printed.index("prepare waits for") < printed.index("prepare started")
    assert shop.agent.client.run("web-2")["state"] == "success"
    assert _waits_for(shop, "web-2", "prepare") is None


def test_for_the_deployment_of_another_run(shop: Shop) -> None:
    shop.start('port = 8080\nhealth = "/never"')
    client = shop.agent.client
    client.start_run("web")
    shop.agent.wait_stage("web-1", "deploy_staging", {"in_progress"})
    client.start_run("web", rebuild=True)
    until(lambda: _waits_for(shop, "web-2", "deploy_staging"))
    assert _waits_for(shop, "web-2", "deploy_staging") == "web-1, which deploys to staging"
    (told,) = client.events(kind="wait", service="web")
    assert (told["stage"], told["reason"]) == ("deploy_staging", "web-1, which deploys to staging")
    client.cancel("web-1", "enough")
    shop.agent.wait_run("web-1", RUN_ENDED)
    shop.agent.wait_stage("web-2", "deploy_staging", {"in_progress"})
    assert _waits_for(shop, "web-2", "deploy_staging") is None
    client.cancel("web-2", "enough")
    shop.agent.wait_run("web-2", RUN_ENDED)
