"""Approval, order, hold: what may go to production, and on whose word."""

from __future__ import annotations

import concurrent.futures
import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of, states_of
from seamless.errors import NotFoundError, RefusedError, UsageError
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON

pytestmark = pytest.mark.engine

NOBODY = "nobody"


def test_an_approval_is_given_once(shop: Shop) -> None:
    client = shop.agent.client
    shop.start("use_staging = false")
    with pytest.raises(NotFoundError):
        client.approve("web")
    shop.agent.run("web")

    def approve(_: int) -> str:
        try:
            return client.approve("web-1")["state"]
        except RefusedError as error:
            return error.message

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(approve, range(16)))
    (_,) = [answer for answer in answers if "web-1 is not waiting for approval: it was approved by" not in answer]
    shop.agent.wait_run("web-1", RUN_ENDED)
    with pytest.raises(
        RefusedError, match=f"it was approved by {pwd.getpwuid(os.geteuid()).pw_name} .* ago"
    ) as refused:
        client.approve("web")
    assert refused.value.exit_code == 5
    deployments = [event for event in client.events(kind="deployment", limit=1000) if event["name"] == "record"]
    assert len(deployments) == 1


def test_reject_expire_and_void_end_what_waits(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start("use_staging = false")
    agent.run("web")
    rejected = client.reject("web", "not on a friday")
    assert (rejected["state"], rejected["reason"]) == ("cancelled", "not on a friday")
    assert stage_of(rejected, "deploy_production")["state"] == "cancelled"
    with pytest.raises(RefusedError, match="it was rejected by"):
        client.approve("web-1")

    agent.run("web")
    shop.commit()
    agent.run("web")
    voided = agent.wait_run("web-2", RUN_ENDED)
    assert voided["state"] == "cancelled"
    assert "web-3 has passed integration_test since" in (voided["reason"] or "")
    assert agent.approve("web-3")["state"] == "success"

    shop.configure('use_staging = false\napproval_timeout = "1s"')
    _await_reload(shop)
    shop.commit()
    run = agent.run("web")
    expired = agent.wait_run(run["id"], RUN_ENDED)
    assert (expired["state"], expired["reason"]) == ("cancelled", "nobody approved it in time")


def _await_reload(shop: Shop) -> None:
    deadline = time.monotonic() + 60
    before = len(shop.agent.client.events(kind="config"))
    while len(shop.agent.client.events(kind="config")) == before == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_expiry_comes_while_the_agent_is_down(shop: Shop) -> None:
    shop.start('use_staging = false\napproval_timeout = "1s"')
    shop.agent.client.start_run("web")
    shop.agent.wait_run("web-1", {"awaiting_approval", "cancelled"})
    shop.agent.kill()
    time.sleep(1)
    shop.agent.start()
    assert shop.agent.wait_run("web-1", RUN_ENDED)["reason"] == "nobody approved it in time"


def test_production_takes_no_step_back_but_by_rollback(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start("use_staging = false\nauto_deploy = true")
    first = shop.repository.git("rev-parse", "HEAD")
    agent.run("web")
    second = shop.commit()
    assert agent.run("web")["state"] == "success"
    # The branch goes back: its head is older than what runs.
    shop.repository.git("reset", "--hard", "--quiet", first)
    older = agent.run("web")
    assert older["state"] == "cancelled"
    assert f"production runs {second[:7]} (web-2), which is newer" in (older["reason"] or "")

    # The history is rewritten: only on someone's word.
    shop.commit({"hello": "another history\n"})
    waiting = agent.run("web")
    assert waiting["state"] == "awaiting_approval"
    with pytest.raises(RefusedError, match="is not in the history of") as refused:
        client.approve(waiting["id"])
    assert "--allow-rewritten" in (refused.value.hint or "")
    assert agent.approve(waiting["id"], allow_rewritten=True)["state"] == "success"


def test_a_rollback_holds_production_until_someones_word(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start("use_staging = false\nauto_deploy = true")
    first = shop.repository.git("rev-parse", "HEAD")
    agent.run("web")
    shop.commit()
    agent.run("web")
    assert agent.wait_run(client.rollback(first[:8])["id"])["state"] == "success"
    shop.commit()
    waiting = agent.run("web")
    assert waiting["state"] == "awaiting_approval"
    shown = client.run(waiting["id"])["approval"]
    assert shown is not None
    assert shown["hold"] is not None
    assert "on hold: rolled back to" in shown["why"]
    assert agent.approve(waiting["id"], release=True)["state"] == "success"
    assert client.status()[0]["hold"] is None
    shop.commit()
    assert agent.run("web")["state"] == "success"  # auto_deploy again
    client.hold("web", "a sale goes on")
    shop.commit()
    assert agent.run("web")["state"] == "awaiting_approval"
    client.release("web")
    with pytest.raises(RefusedError, match="is not on hold"):
        client.release("web")


def test_rollbacks_that_cannot_be(shop: Shop, tmp_path: Path) -> None:
    agent, client = shop.agent, shop.agent.client
    built = tmp_path / "built"
    built.touch()
    check = f"until [ ! -e red ] || grep -q yes {built}; do sleep 0.1; done; test ! -e red"  # failing ends the build
    shop.start(f'use_staging = false\nunit_test = "{check}"\nfiles = {{ "{built}" = "{built}" }}')
    red = shop.commit({"red": ""})
    client.start_run("web")
    agent.wait_stage("web-1", "build", {"success"})
    built.write_text("yes")
    assert agent.wait_run("web-1", RUN_ENDED)["state"] == "failure"
    for to, error, words in (
        ("not-a-sha", UsageError, "is not a commit"),
        ("0123456", NotFoundError, "there is no image"),
        (red[:7], RefusedError, "checks of"),
        ("--version", UsageError, "is not a commit"),
    ):
        with pytest.raises(error, match=words):
            client.rollback(to)
    good = shop.commit({"red": None})
    agent.run("web")
    image = client.images("web")[0]
    subprocess.run(["docker", "image", "rm", "--force", image["ref"]], check=True, capture_output=True)
    with pytest.raises(RefusedError, match="is gone"):
        client.rollback(good[:7])


def test_promote_takes_what_staging_runs(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start()
    with pytest.raises(RefusedError, match="staging runs nothing"):
        client.promote("web")
    agent.run("web")
    client.reject("web", "later")
    promoted = agent.wait_run(client.promote("web")["id"])
    assert (promoted["trigger"], promoted["state"]) == ("promote", "success")
    client.hold("web", "wait")
    with pytest.raises(RefusedError, match="on hold: wait"):
        client.promote("web")


def test_another_ref_goes_to_staging_at_most_and_is_never_promoted(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.repository.git("checkout", "--quiet", "-b", "feature")
    shop.commit({"hello": "feature\n"})
    shop.start()
    run = agent.run("web", ref="feature")
    assert run["trust"] == "repository"
    assert list(states_of(run)) == ["prepare", "code_quality", "unit_test", "build", "integration_test"]
    run = agent.run("web", ref="feature", staging=True)
    assert (run["state"], states_of(run)["deploy_staging"]) == ("success", "success")
    with pytest.raises(RefusedError, match="not of the service's branch"):
        client.promote("web")
    (image, *_) = client.images("web")
    assert image["tag"].startswith("untrusted-")
    assert not image["deployable"]


def _as_nobody(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    user = pwd.getpwnam(NOBODY)
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _curl(shop: Shop, method: str, path: str, body: str = "{}") -> list[str]:
    """A request as another user, by a program that needs nothing of ours; returns its words."""
    code = (
        "import http.client, socket, sys\n"
        "c = http.client.HTTPConnection('agent'); c.sock = socket.socket(socket.AF_UNIX)\n"
        f"c.sock.connect({str(shop.agent.socket)!r})\n"
        f"c.request({method!r}, {path!r}, {body!r}, {{'Content-Type': 'application/json'}})\n"
        "r = c.getresponse(); print(r.status, r.read().decode())"
    )
    done = _as_nobody(shop, "/usr/bin/python3", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(" ", 1)


def test_the_peer_decides_what_may_be_done_and_is_recorded(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start("use_staging = false", more=f'[access]\noperators = ["{NOBODY}"]\napprovers = ["anna"]')
    shop.agent.socket.chmod(0o666)  # as if nobody were in the socket's group
    shop.agent.socket.parent.chmod(0o755)
    status, _ = _curl(shop, "POST", "/v1/services/web/runs")
    assert status == "201"
    run = agent.wait_run("web-1")
    assert run["requested_by"] == NOBODY
    status, body = _curl(shop, "POST", "/v1/runs/web/approve")
    assert status == "403"
    assert f"{NOBODY} may not approve web" in body
    assert "anna" in body
    assert '"exit_code":5' in body
    for path in ("/v1/services/web/promote", "/v1/services/web/release", "/v1/runs/web/reject"):
        assert _curl(shop, "POST", path, '{"why": "x"}')[0] == "403"
    assert _curl(shop, "GET", "/v1/status")[0] == "200"
    assert _curl(shop, "POST", "/v1/runs/web/cancel", '{"why": "mine"}')[0] == "200"
    cancelled = agent.wait_run("web-1", RUN_ENDED)
    assert cancelled["reason"] == f"cancelled by {NOBODY}: mine"
    (action,) = [event for event in client.events(kind="action") if event["name"] == "cancel"]
    assert action["actor"] == NOBODY
    with pytest.raises(RefusedError):
        client.approve("web-1")


def test_staging_takes_no_older_main_run(shop: Shop, tmp_path: Path) -> None:
    """A run of `main` that was held up finds a newer one in staging, and gives way."""
    agent, client = shop.agent, shop.agent.client
    overtaken = tmp_path / "overtaken"
    overtaken.touch()
    test = f"test ! -e slow || until grep -q yes {overtaken}; do sleep 0.1; done"
    shop.start(
        f'poll_interval = "1s"\nunit_test = "{test}"\nfiles = {{ "{overtaken}" = "{overtaken}" }}', agent="poll = true"
    )
    _await_head(shop, shop.repository.git("rev-parse", "HEAD"))
    shop.commit({"slow": ""})
    _await_runs(shop, 1)
    shop.commit({"slow": None})
    _await_runs(shop, 2)
    newer = agent.wait_run("web-2")
    overtaken.write_text("yes")
    older = agent.wait_run("web-1", RUN_ENDED)
    assert newer["state"] == "awaiting_approval"
    assert (older["state"], older["reason"]) == ("cancelled", "staging already runs web-2, which is newer")
    assert states_of(older)["deploy_staging"] == "cancelled"
    assert client.runs(service="web", state="awaiting_approval")[0]["id"] == "web-2"


def _await_head(shop: Shop, commit: str) -> None:
    deadline = time.monotonic() + 60
    while (head := shop.agent.client.status()[0]["head"]) is None or head["commit"] != commit:
        assert time.monotonic() < deadline, head
        time.sleep(0.1)


def _await_runs(shop: Shop, count: int) -> list[RunJSON]:
    deadline = time.monotonic() + 60
    while len(runs := shop.agent.client.runs(service="web")) < count:
        assert time.monotonic() < deadline, runs
        time.sleep(0.1)
    return runs
