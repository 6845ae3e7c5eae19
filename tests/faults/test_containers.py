"""What containers run out of, and images that vanish."""

from __future__ import annotations

import secrets

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of, stages, states_of
from harness.engine import docker, remove_everything
from harness.invariants import assert_accounted_for
from seamless.errors import RefusedError

pytestmark = pytest.mark.engine

# Each fork fails once the limit is reached, and the shell says so.
FORKS = "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i + 1)); done"


def test_processes_run_out_and_prepare_that_is_tried_again_takes_its_checks_along(shop: Shop) -> None:
    """The checks' containers are made while prepare runs: those over an attempt that failed are not used."""
    install = 'sleep 1; echo "$SEAMLESS_ATTEMPT" >attempt; test "$SEAMLESS_ATTEMPT" = 2'
    service = f"install = '''{install}'''\ncode_quality = 'cat attempt'\nunit_test = '''{FORKS}'''\nmax_attempts = 2"
    shop.start(f"{service}\nlimits = {{ pids = 32 }}")
    ended = shop.agent.run("web", checks=True)
    assert states_of(ended) == {"prepare": "success", "code_quality": "success", "unit_test": "failure"}, stages(ended)
    assert stage_of(ended, "prepare")["attempt"] == 2
    assert shop.agent.read_log("web-1", "code_quality").strip() == "2"
    assert "can't fork" in shop.agent.read_log("web-1", "unit_test")
    assert_accounted_for(shop.agent)


def test_an_image_that_vanished_before_its_deployment(shop: Shop) -> None:
    shop.start("use_staging = false")
    assert shop.agent.run("web")["state"] == "awaiting_approval"
    docker("image", "rm", "--force", stage_of(shop.agent.client.run("web-1"), "build")["detail"]["ref"])
    ended = shop.agent.approve("web-1")
    assert ended["state"] == "failure"
    assert "is gone" in (ended["reason"] or "")
    with pytest.raises(RefusedError, match="is gone"):
        shop.agent.client.rollback(ended["commit"])
    again = shop.agent.run("web")  # nothing is believed to be there: it is built anew
    assert again["state"] == "awaiting_approval"
    assert shop.agent.approve("web-2")["state"] == "success"
    assert_accounted_for(shop.agent)


def test_what_nobody_accounts_for_goes_when_the_agent_starts_and_what_is_others_stays(shop: Shop) -> None:
    shop.start()
    agent = shop.agent
    assert agent.run("web", checks=True)["state"] == "success"
    agent.await_clean()
    agent.kill()
    ours, others = agent.installation, secrets.token_hex(4)
    names = {}
    for installation in (ours, others):
        told = {"installation": installation, "run": "web-99", "role": "stage"}
        labels = [f"--label=io.seamless.{name}={value}" for name, value in told.items()]
        names[installation] = f"seamless-{installation}-web-99-unit_test-1"
        docker("run", "--detach", "--name", names[installation], *labels, agent.image, "sleep", "1000")
        docker("volume", "create", *labels, f"{names[installation]}-view")
        docker("network", "create", *labels, f"{names[installation]}-net")
    for folder in ("views/web-99-prepare-1/upper", "trees/web-99-prepare-1/files", "caches/web-99-prepare-0/upper"):
        (agent.data_dir / folder).mkdir(parents=True)
    try:
        assert_accounted_for(agent)  # starts it
        assert docker("inspect", "--format", "{{.State.Running}}", names[others]) == "true"
        assert docker("volume", "ls", "--quiet", "--filter", f"name={names[others]}") != ""
        assert docker("network", "ls", "--quiet", "--filter", f"name={names[others]}") != ""
    finally:
        remove_everything(others)
