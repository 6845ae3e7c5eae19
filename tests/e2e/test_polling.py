"""Heads: a run for each new one, none lost while the agent was down, none twice."""

from __future__ import annotations

import contextlib
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.conftest import Shop, until
from seamless.agent.watcher import next_delay_s
from seamless.errors import RefusedError
from seamless.transitions import RUN_ENDED


@pytest.mark.engine
def test_a_new_head_starts_exactly_one_run_however_it_comes(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    shop.start('poll_interval = "1s"\nuse_staging = false', agent="poll = true")
    until(lambda: client.status()[0]["head"] is not None)
    assert client.runs() == []  # adding a service deploys nothing by itself
    head = shop.commit()
    until(lambda: client.runs())
    (run,) = client.runs()
    assert (run["trigger"], run["commit"], run["requested_by"], run["trust"]) == ("main", head, "poller", "trusted")
    agent.wait_run("web-1")
    client.cancel("web-1", "")
    agent.wait_run("web-1", RUN_ENDED)

    agent.kill()
    shop.commit()
    newest = shop.commit()  # of several that came meanwhile, the newest
    agent.start()
    until(lambda: len(client.runs()) == 2)
    assert client.run("web-2")["commit"] == newest
    agent.wait_run("web-2")

    def is_head(commit: str) -> bool:
        head = client.status()[0]["head"]
        return head is not None and head["commit"] == commit

    def runs_of(commit: str) -> list[str]:
        return [run["trigger"] for run in reversed(client.runs()) if run["commit"] == commit]

    for _ in range(10):  # until somebody is faster than the poller
        manual = shop.commit()
        client.start_run("web", checks=True)
        until(partial(is_head, manual))
        if runs_of(manual)[0] == "manual":
            break
    time.sleep(2.5)  # two intervals: the poller has seen it, and somebody has asked for it already
    assert runs_of(manual) == ["manual"]


@pytest.mark.engine
def test_a_repository_that_cannot_be_read_is_told_and_comes_back(shop: Shop) -> None:
    client = shop.agent.client
    away = shop.repository.path.rename(shop.repository.path.with_name("away"))
    shop.start('poll_interval = "1s"', agent="poll = true")
    until(lambda: client.status()[0]["problem"] is not None)
    assert "web" in (client.status()[0]["problem"] or "")
    away.rename(shop.repository.path)
    until(lambda: client.status()[0]["problem"] is None)
    shop.repository.git("branch", "-m", "main", "trunk")
    until(lambda: client.status()[0]["problem"] is not None)
    assert "has no branch main" in (client.status()[0]["problem"] or "")


@pytest.mark.engine
def test_of_several_services_in_a_repository_those_run_that_a_push_touches(shop: Shop) -> None:
    agent, client = shop.agent, shop.agent.client
    repository = shop.repository
    files = {f"services/{name}/Dockerfile": "FROM scratch\n" for name in ("cart", "mail")}
    first = shop.commit({**files, "libs/money/x": "1\n"})
    repository.git("tag", "v1")
    service = """[services.{name}]
repo = "{repo}"
path = "services/{name}"
watch_paths = ["libs/money", "!services/*/README.md"]
triggers = ["main"]
{more}
"""
    configuration = [
        service.format(name=name, repo=repository.path, more=more)
        for name, more in (("cart", 'refs = ["refs/tags/v*"]'), ("mail", ""))
    ]
    agent.configure("".join(configuration), pipeline='poll_interval = "1s"', agent="poll = true")
    agent.start()

    def heads() -> set[str | None]:
        return {None if (head := status["head"]) is None else head["commit"] for status in client.status()}

    def runs() -> list[tuple[str, str, str]]:
        return [(run["id"], run["ref"], run["commit"]) for run in reversed(client.runs())]

    def await_heads(commit: str) -> None:
        until(lambda: heads() == {commit})

    await_heads(first)
    assert runs() == []
    repository.git("checkout", "--quiet", "-b", "work")
    shop.commit({"services/cart/x": "1\n"})
    for number in range(29):  # what was touched counts over the whole push, not by its last commit
        shop.commit({"docs/x": f"{number}\n"})
    pushed = repository.git("rev-parse", "HEAD")
    repository.git("branch", "--force", "main", "work")
    repository.git("checkout", "--quiet", "main")
    await_heads(pushed)
    expected = [("cart-1", "refs/heads/main", pushed)]
    assert runs() == expected
    await_heads(shop.commit({"services/mail/README.md": "only words\n", "x": "1\n"}))
    await_heads(shop.commit({"services/mail/x": "1\n"}, "not now [skip ci]"))
    assert runs() == expected
    (told,) = [event for event in client.events(kind="service") if event["name"] == "skip"]
    assert (told["service"], told["actor"]) == ("mail", "poller")
    assert "[skip ci]" in (told["reason"] or "")
    shared = shop.commit({"libs/money/x": "2\n"})
    await_heads(shared)
    expected += [("cart-2", "refs/heads/main", shared), ("mail-1", "refs/heads/main", shared)]
    assert sorted(runs()) == sorted(expected)
    repository.git("tag", "v2", first)
    until(lambda: client.runs(service="cart")[0]["ref"] == "refs/tags/v2")
    tagged = client.runs(service="cart")[0]
    assert (tagged["trigger"], tagged["trust"], tagged["commit"]) == ("manual", "repository", first)
    assert [stage["name"] for stage in tagged["stages"]][-1] == "integration_test"
    assert len(client.runs()) == 4
    for run in client.runs():
        with contextlib.suppress(RefusedError):  # it may have ended by itself
            client.cancel(run["id"], "")
    until(lambda: all(run["state"] in RUN_ENDED for run in client.runs()))


@given(st.floats(1, 3600), st.integers(0, 1000), st.floats(0, 1))
def test_the_interval_doubles_with_each_failure_up_to_a_quarter_of_an_hour(
    interval_s: float, failures: int, chance: float
) -> None:
    delay_s = next_delay_s(interval_s, failures, chance)
    plain = min(interval_s * 2.0 ** min(failures, 20), max(900.0, interval_s))
    assert 0.899 * plain <= delay_s <= 1.101 * plain
    assert interval_s * 0.899 <= delay_s <= max(900.0, interval_s) * 1.101
