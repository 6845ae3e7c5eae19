"""Reruns, local trees, and caches by trust."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of, states_of
from harness.invariants import await_cleaned
from seamless.errors import RefusedError, UsageError

pytestmark = pytest.mark.engine


def test_a_rerun_from_a_stage_keeps_what_is_not_downstream(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('install = "echo installed"\ncode_quality = "true"\nunit_test = "exit 1"\nuse_staging = false')
    agent.run("web")
    with pytest.raises(UsageError, match="has no stage deploy_staging"):
        client.rerun("web-1", from_stage="deploy_staging")
    again = agent.wait_run(client.rerun("web-1", from_stage="unit_test")["id"])
    assert (again["rerun_of"], again["state"]) == ("web-1", "failure")
    for name in ("prepare", "code_quality"):
        kept = stage_of(again, name)
        assert (kept["state"], kept["reason"], kept["attempt"]) == ("success", "kept from web-1", 0)
    assert stage_of(again, "unit_test")["attempt"] == 1

    shop.configure('install = "echo installed"\ncode_quality = "true"\nunit_test = "echo well"\nuse_staging = false')
    assert_reloaded(shop)
    mended = agent.wait_run(client.rerun("web-2", from_stage="unit_test")["id"])  # of a rerun; today's parameters
    assert mended["state"] == "awaiting_approval"
    assert stage_of(mended, "prepare")["reason"] == "kept from web-2"
    assert agent.approve(mended["id"])["state"] == "success"
    production = client.status()[0]["production"]
    assert production is not None
    assert production["commit"] == mended["commit"]


def assert_reloaded(shop: Shop) -> None:
    for event in shop.agent.client.stream_events(after=0):
        if event["kind"] == "config":
            assert event["name"] == "reload"
            return


def test_prepare_is_repeated_when_its_tree_is_gone_and_that_is_said(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('install = "echo installed"\nunit_test = "exit 1"\nkeep_failed = "0s"')
    agent.run("web")
    agent.await_clean()
    await_empty(agent.data_dir / "views")
    again = agent.wait_run(client.rerun("web-1", from_stage="unit_test")["id"])
    prepared = stage_of(again, "prepare")
    assert (prepared["state"], prepared["attempt"]) == ("success", 1)
    assert "the workspace of web-1 is gone" in agent.read_log(again["id"], "prepare")


def await_empty(folder: Path) -> None:
    """Until the agent has cleaned up there."""
    deadline = time.monotonic() + 60
    while any(folder.iterdir()):
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.05)


def test_a_rerun_is_of_what_has_ended(shop: Shop) -> None:
    shop.start("use_staging = false")
    shop.agent.run("web")
    with pytest.raises(RefusedError, match="has not ended"):
        shop.agent.client.rerun("web-1")
    shop.agent.client.cancel("web-1", "")


def _tar(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content.encode())
            tar.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


def test_a_local_tree_is_checked_without_secrets_and_caches(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.configure(
        'install = "ls; ls /cache 2>&1 || true"\nunit_test = "cat new; echo word=${WORD:-none}"\n'
        'caches = ["/cache"]\nsecrets.WORD = { env = "WORD", expose = ["pr"] }'
    )
    agent.start(WORD="correct horse")
    head = shop.repository.git("rev-parse", "HEAD")
    run = client.start_local_run("web", [_tar({"new": "not committed\n", "hello": "changed\n"})], commit=head)
    ended = agent.wait_run(run["id"])
    assert (ended["state"], ended["trust"], ended["ref"]) == ("success", "untrusted", "local")
    assert list(states_of(ended)) == ["prepare", "code_quality", "unit_test"]
    assert agent.read_log(run["id"], "unit_test").endswith("not committed\nword=none\n")
    assert "Dockerfile" not in agent.read_log(run["id"], "prepare")  # only what was sent
    assert "No such file" in agent.read_log(run["id"], "prepare")
    with pytest.raises(RefusedError, match="ran a local tree"):
        client.rerun(run["id"])
    # Its tree goes with it, and the next run has the commit's.
    run = agent.run("web", checks=True)
    assert run["state"] == "failure"
    assert "can't open 'new'" in agent.read_log(run["id"], "unit_test")


@pytest.mark.parametrize("body", [b"not a tar file", _tar({"../outside": "x"}), _tar({"x/../../outside": "x"})])
def test_a_local_tree_that_is_none_fails_and_touches_nothing(shop: Shop, body: bytes) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('unit_test = "ls"')
    run = client.start_local_run("web", [body], commit="a" * 40)
    ended = agent.wait_run(run["id"])
    assert ended["state"] == "failure"
    assert "cannot be unpacked" in (ended["reason"] or "")
    assert not Path("/etc/outside").exists()
    await_cleaned(agent)
    assert not list(agent.data_dir.rglob("outside"))


CACHE = 'install = "cat /cache/seen 2>/dev/null || true; echo $SEAMLESS_RUN >> /cache/seen"\ncaches = ["/cache"]'


def test_caches_are_written_by_trusted_successes_only(shop: Shop) -> None:
    agent = shop.agent
    shop.repository.git("branch", "other")
    shop.start(f'{CACHE}\nunit_test = "test ! -e red"')

    def seen(run: str) -> list[str]:
        """What the run's prepare found in its cache."""
        return [line for line in agent.read_log(run, "prepare").splitlines() if line.startswith("web-")]

    def go(**wanted: object) -> list[str]:
        run = agent.run("web", checks=True, **wanted)
        agent.await_clean()
        await_empty(agent.data_dir / "spool")
        return seen(run["id"])

    assert go() == []
    assert go() == ["web-1"]
    assert go(ref="other") == ["web-1", "web-2"]  # reads main's, and keeps what it writes to itself
    assert go() == ["web-1", "web-2"]
    shop.commit({"red": ""})
    assert go() == ["web-1", "web-2", "web-4"]
    shop.commit({"red": None})
    assert go() == ["web-1", "web-2", "web-4"]  # web-5 failed
