"""`seamless gc` and `seamless events` of a real agent."""

from __future__ import annotations

import json

import pytest

from e2e.conftest import Shop, until
from harness.engine import docker

pytestmark = pytest.mark.engine

SERVICE = """
use_staging = false
auto_deploy = true
keep_images = 1
unit_test = "mkdir -p coverage/deep; cat hello >coverage/deep/report; seq 3000"
artifacts = { unit_test = ["coverage/**/*"] }
"""
RETENTION = '[retention]\nlogs = "0.1s"\ncheckouts = "0.1s"\n'


def test_what_was_kept_long_enough_goes_and_what_runs_stays(shop: Shop) -> None:
    agent = shop.agent
    shop.start(SERVICE, more=RETENTION)
    for text in ("one", "two", "three"):
        shop.commit({"hello": f"{text}\n"})
        assert agent.run("web")["state"] == "success"
    agent.await_clean()
    images = {image["run"]: image["ref"] for image in agent.client.images("web")}

    def here() -> set[str]:
        return {run for run, ref in images.items() if docker("image", "inspect", ref, check=False) not in ("", "[]")}

    assert here() == {"web-1", "web-2", "web-3"}
    got = agent.folder / "got"
    assert agent.cli("artifacts", "web-3", "--get", str(got)).returncode == 0
    assert (got / "unit_test/coverage/deep/report").read_text() == "three\n"
    assert agent.cli("artifacts", "web-3", "--get", str(got)).returncode == 5, "written over"

    dry = json.loads(agent.cli("gc", "--dry-run", "--json").stdout)
    found = {(one["kind"], one["name"].partition("@")[0]) for one in dry if one["kind"] != "checkout"}
    assert found == {("image", "web"), ("log", "web-1"), ("packed", "web-1"), ("packed", "web-2"), ("packed", "web-3")}
    assert any(one["kind"] == "checkout" for one in dry)
    assert here() == {"web-1", "web-2", "web-3"}
    assert agent.read_log("web-1", "build")
    counted = agent.read_log("web-3", "unit_test")

    done = agent.cli("gc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("removed: ")
    assert here() == {"web-2", "web-3"}, "what runs, or what would be rolled back to, is gone"
    assert agent.read_log("web-1", "build") == ""
    assert agent.cli("artifacts", "web-1", "--get", str(agent.folder / "gone")).returncode == 2
    assert agent.read_log("web-3", "build")
    assert agent.read_log("web-3", "unit_test") == counted
    assert list(agent.folder.rglob("logs/web/web-3/unit_test.log.gz"))
    assert agent.cli("logs", "web-3", "unit_test", "--raw").stdout == counted
    assert agent.cli("gc").stdout == "nothing was kept too long\n"

    refused = agent.cli("rollback", "web", "--to", agent.client.run("web-1")["commit"])
    assert refused.returncode == 5, refused.stderr
    assert agent.wait_run(agent.client.rollback(agent.client.run("web-2")["commit"])["id"])["state"] == "success"
    shop.commit({"hello": "four\n"})
    assert agent.run("web")["state"] == "awaiting_approval", "the hold"

    told = agent.cli("events")
    assert any("gc" in line and "image=1" in line for line in told.stdout.splitlines()), told.stdout
    lines = agent.cli("events", "--all", "--run", "web-1", "--json", "--limit", "0").stdout.splitlines()
    assert {json.loads(line)["run"] for line in lines} == {"web-1"}
    assert len(lines) > len(agent.cli("events", "--all", "--run", "web-1", "--limit", "2").stdout.splitlines()) == 2
    assert agent.cli("events", "--actor", "nobody-at-all").stdout == ""
    assert agent.cli("events", "--since", "2100-01-01").stdout == ""
    assert agent.cli("events", "--since", "yesterday").returncode == 2


def test_the_mirror_of_a_repository_that_no_service_has_any_more_goes(shop: Shop) -> None:
    agent = shop.agent
    shop.start(SERVICE, more=RETENTION)
    assert agent.run("web")["state"] == "success"
    agent.await_clean()
    (mirror,) = agent.folder.rglob("mirrors/*.git")
    assert agent.cli("gc").returncode == 0
    assert mirror.exists(), "a service has it"
    (mirror.parent / "0123456789abcdef0123.new").mkdir()

    assert agent.cli("service", "remove", "web", "--yes").returncode == 0
    until(lambda: not agent.client.services())
    found = json.loads(agent.cli("gc", "--json").stdout)
    assert {one["name"] for one in found if one["kind"] == "mirror"} == {
        str(shop.repository.path),
        "0123456789abcdef0123.new",
    }
    assert list(mirror.parent.iterdir()) == []
