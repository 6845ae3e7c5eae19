"""Runs of pull requests, stored as a forge will store them: merged onto the branch, with what their trust allows."""

from __future__ import annotations

import asyncio

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of, states_of
from seamless.agent.planning import stages_of, trust_of
from seamless.agent.store import NewRun, Store
from seamless.config import load_config
from seamless.model import RunOptions, Trigger
from seamless.wire import RunJSON

pytestmark = pytest.mark.engine

SERVICE = """\
install = "mkdir -p /cache; cat /cache/seen 2>/dev/null || true; echo $SEAMLESS_RUN >> /cache/seen; ls"
unit_test = "echo shown=${SHOWN:-none} hidden=${HIDDEN:-none}"
caches = ["/cache"]
secrets.SHOWN = { env = "SHOWN", expose = ["pr"] }
secrets.HIDDEN = { env = "HIDDEN" }
"""


def _start(shop: Shop) -> None:
    shop.agent.start(SHOWN="a shown value", HIDDEN="a hidden value")


def _play(shop: Shop, commit: str, *, base: str, fork: bool = False) -> RunJSON:
    """Stores the run of a pull request while the agent is down, and lets the agent drive it."""
    shop.agent.stop()
    parameters = load_config(shop.agent.config_file).services["web"]
    options = RunOptions(fork=fork)
    new = NewRun(
        service="web",
        trigger=Trigger.PR_OPEN,
        trust=trust_of(Trigger.PR_OPEN, options),
        ref="refs/pull/1/head",
        commit=commit,
        base=base,
        subject="a pull request",
        author="Eve",
        requested_by="github",
        parameters=parameters.model_dump(mode="json"),
        options=options,
        stages=stages_of(Trigger.PR_OPEN, options, use_staging=True),
    )

    async def store_run() -> str:
        store = await Store.open(shop.agent.data_dir / "seamless.db")
        try:
            return (await store.runs.create(new)).id
        finally:
            await store.close()

    run = asyncio.run(store_run())
    _start(shop)
    return shop.agent.wait_run(run)


def _branch(shop: Shop, files: dict[str, str | None]) -> str:
    """The head of a pull request that changes these files."""
    shop.repository.git("checkout", "--quiet", "-B", "request", "main")
    head = shop.commit(files)
    shop.repository.git("update-ref", "refs/pull/1/head", head)
    shop.repository.git("checkout", "--quiet", "main")
    return head


def test_a_pull_request_is_tried_as_it_would_be_merged_with_what_its_trust_allows(shop: Shop) -> None:
    shop.configure(SERVICE)
    head = _branch(shop, {"theirs": "theirs\n"})
    base = shop.commit({"ours": "ours\n"})
    _start(shop)
    assert shop.agent.run("web", checks=True)["state"] == "success"
    assert "none" not in shop.agent.read_log("web-1", "unit_test")
    run = _play(shop, head, base=base)
    assert (run["state"], run["commit"], run["trust"]) == ("success", head, "repository")
    assert list(states_of(run)) == ["prepare", "code_quality", "unit_test"]
    prepared = shop.agent.read_log(run["id"], "prepare").splitlines()
    assert "web-1" in prepared  # main's cache
    assert {"ours", "theirs"} <= set(prepared)
    log = shop.agent.read_log(run["id"], "unit_test")
    assert "hidden=none" in log
    assert "shown=none" not in log

    forked = _play(shop, head, base=base, fork=True)
    assert (forked["state"], forked["trust"]) == ("success", "untrusted")
    assert "web-1" not in shop.agent.read_log(forked["id"], "prepare").splitlines()
    assert "shown=none hidden=none" in shop.agent.read_log(forked["id"], "unit_test")


def test_a_conflict_names_the_files(shop: Shop) -> None:
    shop.configure('unit_test = "true"')
    head = _branch(shop, {"hello": "theirs\n", "more/with space": "theirs\n"})
    base = shop.commit({"hello": "ours\n", "more/with space": "ours\n"})
    _start(shop)
    run = _play(shop, head, base=base)
    assert run["state"] == "failure"
    reason = stage_of(run, "prepare")["reason"] or ""
    assert "hello" in reason
    assert "more/with space" in reason
    assert states_of(run) == {"prepare": "failure", "code_quality": "skipped", "unit_test": "skipped"}


def test_a_commit_that_has_gone_is_told(shop: Shop) -> None:
    shop.configure('unit_test = "true"')
    _start(shop)
    run = _play(shop, "f" * 40, base=shop.repository.git("rev-parse", "HEAD"))
    assert run["state"] == "failure"
    assert "fffffff" in (stage_of(run, "prepare")["reason"] or "")


def test_a_pull_requests_ref_is_one_whoever_asks_for_it(shop: Shop) -> None:
    shop.configure(SERVICE)
    head = _branch(shop, {"theirs": "theirs\n"})
    shop.commit({"ours": "ours\n"})
    _start(shop)
    run = shop.agent.run("web", ref="refs/pull/1/head")
    assert (run["state"], run["trigger"], run["trust"]) == ("success", "pr_sync", "untrusted")
    assert (run["commit"], list(states_of(run))) == (head, ["prepare", "code_quality", "unit_test"])
    assert {"ours", "theirs"} <= set(shop.agent.read_log(run["id"], "prepare").splitlines())
    assert "shown=none hidden=none" in shop.agent.read_log(run["id"], "unit_test")


def test_a_bare_commit_is_the_repositorys_only_if_a_branch_has_it(shop: Shop) -> None:
    shop.configure(SERVICE)
    head = _branch(shop, {"theirs": "theirs\n"})
    own = shop.repository.git("rev-parse", "main")
    shop.repository.git("branch", "-D", "request")
    _start(shop)
    told = shop.agent.run("web", ref=head)
    assert (told["state"], told["trust"], told["ref"]) == ("success", "untrusted", head)
    assert "shown=none hidden=none" in shop.agent.read_log(told["id"], "unit_test")
    assert shop.agent.client.start_run("web", ref=own)["trust"] == "repository"
