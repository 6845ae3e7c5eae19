"""`seamless gc` and `seamless events` of a real agent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from e2e.conftest import Shop, until
from harness.engine import docker
from harness.invariants import await_cleaned
from harness.registry import LocalRegistry, local_registry

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
    await_cleaned(agent)  # logs of a run that is not are not packed yet
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
    assert found == {("image", "web"), ("log", "web-1"), ("packed", "web-2"), ("packed", "web-3")}
    assert any(one["kind"] == "checkout" for one in dry)
    assert here() == {"web-1", "web-2", "web-3"}
    assert agent.read_log("web-1", "build")
    counted = agent.read_log("web-3", "unit_test")

    done = agent.cli("gc")
    assert done.returncode == 0, done.stderr
    assert re.match(r"removed: \d+, logs packed: 2; ", done.stdout.splitlines()[-1]), done.stdout
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
    assert agent.cli("events", "--until", "2000-01-01").stdout == ""
    (first, *_), moment = map(json.loads, lines), json.loads(lines[1])["at"]
    before = agent.cli("events", "--all", "--run", "web-1", "--json", "--until", moment).stdout.splitlines()
    assert [json.loads(line)["id"] for line in before] == [first["id"]]
    for option in ("--since", "--until"):
        assert agent.cli("events", option, "yesterday").returncode == 2


def test_images_go_from_their_registry_and_those_that_it_does_not_delete_stay(shop: Shop, tmp_path: Path) -> None:
    agent = shop.agent
    password = agent.folder / "password"
    password.write_text("secret")
    with local_registry(tmp_path / "registry", deletes=False) as registry:
        shop.start(
            f'registry = "{registry.host}/acme"\nuse_staging = false\nauto_deploy = true\nkeep_images = 1\n',
            more=f'[registries."{registry.host}"]\nusername = "acme"\npassword = {{ file = "{password}" }}\n',
        )
        commits = []
        for text in ("one", "two", "three"):
            commits.append(shop.commit({"hello": f"{text}\n"}))
            assert agent.run("web")["state"] == "success"
        shop.repository.git("branch", "other")
        assert agent.run("web", ref="other")["state"] == "success"
        agent.await_clean()
        digests = {image["run"]: image["digest"] for image in agent.client.images("web")}

        def there(registry: LocalRegistry) -> set[str]:
            return {run for run, digest in digests.items() if registry.has("acme/web", digest)}

        def on_the_engine(run: str) -> bool:
            named = f"{registry.host}/acme/web@{digests[run]}"
            return docker("image", "inspect", named, check=False) not in ("", "[]")

        assert there(registry) == {"web-1", "web-2", "web-3", "web-4"}
        assert not on_the_engine("web-4"), "what nobody may deploy"
        dry = json.loads(agent.cli("gc", "--dry-run", "--json").stdout)
        place = f"in {registry.host}/acme/web"
        assert [(one["why"], one["kept"]) for one in dry if one["kind"] == "image"] == [
            (f"older than the 1 that are kept, {place}", None),
            (f"web-4 is over, {place}", None),
        ]
        assert on_the_engine("web-1")
        told = agent.cli("gc").stderr
        assert told.count(f"the registry {registry.host} does not delete: HTTP 405 UNSUPPORTED") == 2, told
        assert there(registry) == {"web-1", "web-2", "web-3", "web-4"}
        assert not on_the_engine("web-1")
        back = agent.wait_run(agent.client.rollback(commits[0])["id"])
        assert back["state"] == "success", "an image that is there could not be deployed"

    with local_registry(tmp_path / "registry", host=registry.host) as registry:
        done = agent.cli("gc")
        assert (done.returncode, done.stderr) == (0, "")
        assert there(registry) == {"web-1", "web-3"}, "what runs, or what a rollback would take, is gone"
        assert not registry.has("acme/web", "untrusted-web-4")
        assert registry.has("acme/web", commits[2])
        assert not on_the_engine("web-2")
        assert agent.cli("gc").stdout == "nothing was kept too long\n"


def test_the_mirror_of_a_repository_that_no_service_has_any_more_goes(shop: Shop) -> None:
    agent = shop.agent
    shop.start(SERVICE, more=RETENTION)
    assert agent.run("web")["state"] == "success"
    agent.await_clean()
    await_cleaned(agent)
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
