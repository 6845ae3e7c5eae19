"""Cancelling at every point: recorded at once, ended soon, nothing left behind."""

from __future__ import annotations

import os
import pwd

import pytest

from e2e.conftest import DOCKERFILE, Shop
from harness.agents import stage_of, states_of
from harness.engine import docker
from seamless.errors import RefusedError
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON

pytestmark = pytest.mark.engine

WHY = f"cancelled by {pwd.getpwuid(os.geteuid()).pw_name}: enough"
COMPOSE = """\
services:
  tests:
    image: {image}
    command: ["sleep", "1000"]
"""


def _cancel(shop: Shop, run: str) -> RunJSON:
    asked = shop.agent.client.cancel(run, "enough")
    assert asked["cancel_requested"] == WHY or asked["state"] == "cancelled"
    ended = shop.agent.wait_run(asked["id"], RUN_ENDED, within_s=60)
    assert (ended["state"], ended["reason"]) == ("cancelled", WHY)
    assert {stage["state"] for stage in ended["stages"]} <= {"success", "skipped", "cancelled"}
    with pytest.raises(RefusedError, match="has ended already"):
        shop.agent.client.cancel(asked["id"], "again")
    return ended


def test_in_prepare_and_while_waiting_for_a_slot(shop: Shop) -> None:
    shop.start('install = "echo begun; sleep 1000"', agent="max_parallel_runs = 1")
    client = shop.agent.client
    client.start_run("web")
    shop.agent.wait_log("web-1", "prepare", "begun")
    client.start_run("web")
    idle = _cancel(shop, "web-2")
    assert idle["started_at"] is None
    assert set(states_of(idle).values()) == {"cancelled"}
    ended = _cancel(shop, "web")
    assert ended["id"] == "web-1"
    assert stage_of(ended, "prepare")["state"] == "cancelled"


def test_in_the_checks_and_build(shop: Shop) -> None:
    shop.commit({"Dockerfile": DOCKERFILE.format(image=shop.agent.image) + "RUN sleep 1000\n"})
    shop.start('code_quality = "echo begun; sleep 1000"\nunit_test = "echo begun; trap true TERM; sleep 1000"')
    shop.agent.client.start_run("web")
    shop.agent.wait_log("web-1", "code_quality", "begun")
    shop.agent.wait_log("web-1", "unit_test", "begun")
    shop.agent.wait_log("web-1", "build", "sleep 1000")
    ended = _cancel(shop, "web-1")
    assert states_of(ended)["build"] == "cancelled"


def test_in_the_integration_test(shop: Shop) -> None:
    shop.commit({"compose.yml": COMPOSE.format(image=shop.agent.image)})
    shop.start('integration_test = { compose_file = "compose.yml", test_service = "tests" }')
    shop.agent.client.start_run("web")
    shop.agent.wait_stage("web-1", "integration_test", {"in_progress"})
    shop.agent.wait_log("web-1", "integration_test", "tests")
    assert states_of(_cancel(shop, "web-1"))["integration_test"] == "cancelled"


def test_in_a_deployment_which_is_rolled_back(shop: Shop) -> None:
    shop.start('port = 8080\nhealth = "/never"')
    shop.agent.client.start_run("web")
    shop.agent.wait_stage("web-1", "deploy_staging", {"in_progress"})
    ended = _cancel(shop, "web-1")
    assert states_of(ended)["deploy_staging"] == "cancelled"
    assert shop.agent.client.status()[0]["staging"] is None
    label = f"label=io.seamless.installation={shop.agent.installation}"
    assert docker("ps", "--all", "--filter", label, "--filter", "label=io.seamless.role=deployment", "--quiet") == ""
    (deployment,) = [
        event for event in shop.agent.client.events(kind="deployment", limit=100) if event["to_state"] != "recorded"
    ][-1:]
    assert deployment["to_state"] in ("rolled_back", "failure")


def test_while_it_waits_for_approval(shop: Shop) -> None:
    shop.start("use_staging = false")
    shop.agent.run("web")
    assert states_of(_cancel(shop, "web"))["deploy_production"] == "cancelled"


def test_a_cancellation_outlives_the_agent(shop: Shop) -> None:
    shop.start('unit_test = "echo begun; trap true TERM; sleep 1000"')
    shop.agent.client.start_run("web", checks=True)
    shop.agent.wait_log("web-1", "unit_test", "begun")
    shop.agent.client.cancel("web-1", "enough")
    shop.agent.kill()
    shop.agent.start()
    ended = shop.agent.wait_run("web-1", RUN_ENDED)
    assert (ended["state"], ended["reason"]) == ("cancelled", WHY)
