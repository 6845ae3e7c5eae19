"""From a commit to production and back, as a user goes."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of, states_of
from harness.engine import docker

pytestmark = pytest.mark.engine


def test_commit_to_production_rollback_hold_and_release(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start(pipeline='install = "cat hello"\ncode_quality = "echo tidy"\nunit_test = "echo tested"')
    first = shop.repository.git("rev-parse", "HEAD")

    run = agent.run("web")
    assert (run["id"], run["state"], run["commit"]) == ("web-1", "awaiting_approval", first)
    assert states_of(run) == {
        "prepare": "success",
        "code_quality": "success",
        "unit_test": "success",
        "build": "success",
        "integration_test": "skipped",
        "deploy_staging": "success",
        "deploy_production": "idle",
    }
    assert agent.read_log("web-1", "prepare").endswith("hello\n")
    waiting = client.run("web-1")["approval"]
    assert waiting is not None
    assert waiting["production"] is None
    assert waiting["image"] is not None
    assert waiting["image"]["commit"] == first

    run = agent.approve("web")
    assert run["state"] == "success"
    second = shop.commit({"hello": "hello again\n"}, "second")
    run = agent.run("web")
    approval = client.run("web-2")["approval"]
    assert approval is not None
    assert [commit["commit"] for commit in approval["commits"]] == [second]
    assert approval["production"] is not None
    assert approval["production"]["commit"] == first
    assert agent.approve("web-2")["state"] == "success"
    (status,) = client.status()
    assert status["production"] is not None
    assert status["production"]["commit"] == second

    back = agent.wait_run(client.rollback(first[:7])["id"])
    assert (back["state"], back["trigger"], states_of(back)) == (
        "success",
        "rollback",
        {"deploy_production": "success"},
    )
    (status,) = client.status()
    assert status["production"] is not None
    assert status["production"]["commit"] == first
    assert status["hold"] is not None
    assert status["hold"]["commit"] == first

    client.release("web")
    promoted = agent.wait_run(client.promote("web")["id"])
    assert (promoted["state"], promoted["commit"]) == ("success", second)
    deadline = time.monotonic() + 60  # what was replaced ends after the verdict
    while (
        len(
            in_production := docker(
                "ps", "--filter", f"name=seamless-{agent.installation}-production-web-", "--quiet"
            ).split()
        )
        != 1
    ):
        assert time.monotonic() < deadline, in_production
        time.sleep(0.1)
    assert stage_of(promoted, "deploy_production")["exit_code"] == 0
