"""Webhooks into a real agent: one run for each head, whatever is lost, doubled, late, or dies on the way."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass

import httpx
import pytest

from e2e.conftest import Shop, until
from forges.servers import free_port
from harness.agents import states_of
from seamless.errors import RefusedError
from seamless.transitions import RUN_ENDED
from webhooks.examples import SECRET, headers_of

pytestmark = pytest.mark.engine
MAIN = "refs/heads/main"


@dataclass
class Hooked:
    """A shop whose repository sends webhooks, and is asked for nothing else."""

    shop: Shop
    port: int
    sent: int = 0

    def start(self, service: str, *, crash_at: str | None = None) -> None:
        webhooks = f'webhooks = {{ listen = "127.0.0.1:{self.port}", secret = {{ env = "HOOK" }} }}'
        self.shop.configure(service, agent=f"poll = false\n{webhooks}")
        self.shop.agent.start(crash_at=crash_at, HOOK=SECRET)

    def push(self, ref: str = MAIN, *, guid: str | None = None, name: str = "repositories/web") -> int:
        """The status of the answer; 0 when there is none."""
        self.sent += 1
        payload = {"ref": ref, "number": self.sent, "repository": {"id": 7, "full_name": name}}
        body = json.dumps(payload).encode()
        headers = headers_of("push", body, guid or f"guid-{self.sent}")
        try:
            return httpx.post(
                f"http://127.0.0.1:{self.port}/webhooks/github",
                content=body,
                headers=headers,
                trust_env=False,
                timeout=60,
            ).status_code
        except httpx.TransportError:
            return 0

    def outcomes(self) -> list[str | None]:
        """Of the deliveries in their order; the agent must not run."""
        connection = sqlite3.connect(self.shop.agent.data_dir / "seamless.db")
        try:
            return [row[0] for row in connection.execute("SELECT outcome FROM deliveries ORDER BY id")]
        finally:
            connection.close()

    def runs(self) -> list[tuple[str, str]]:
        return [(run["id"], run["commit"]) for run in reversed(self.shop.agent.client.runs())]


@pytest.fixture
def hooked(shop: Shop) -> Hooked:
    return Hooked(shop, free_port())


def test_a_delivery_that_was_stored_is_looked_into_whatever_dies(hooked: Hooked) -> None:
    agent, shop = hooked.shop.agent, hooked.shop
    hooked.start('unit_test = "true"\ntriggers = ["main"]', crash_at="delivery.add:after_commit")
    until(lambda: agent.client.status()[0]["head"] is not None)
    first = shop.commit()
    assert hooked.push(guid="lost") == 0
    assert agent.process is not None
    assert agent.process.wait(timeout=60) == -9
    assert hooked.outcomes() == [None]
    agent.start(HOOK=SECRET)
    until(lambda: hooked.runs() == [("web-1", first)])
    assert agent.client.run("web-1")["trigger"] == "main"
    assert hooked.push(guid="lost") == 200  # GitHub's redelivery has the same GUID

    shop.repository.git("switch", "--quiet", "--create", "next")
    shop.commit()
    newest = shop.commit()
    shop.repository.git("branch", "--force", "main", "next")  # at once: who looks in between would run the first one
    assert [hooked.push(), hooked.push(), hooked.push()] == [202, 202, 202]  # of older commits and this, in any order
    until(lambda: len(hooked.runs()) == 2)
    assert hooked.push("refs/heads/gone") == 202
    assert hooked.push(name="someone/else") == 202
    shop.repository.git("branch", "other")
    assert hooked.push("refs/heads/other") == 202
    assert hooked.push() == 202
    for run, _ in hooked.runs():
        with contextlib.suppress(RefusedError):  # the second may have made the first one's approval void by now
            agent.client.cancel(run, "")
        agent.wait_run(run, RUN_ENDED)

    def ends_with_all_looked_into() -> bool:
        agent.stop()
        if None not in hooked.outcomes():
            return True
        agent.start(HOOK=SECRET)  # the last one came too late: the next agent begins with it
        return False

    until(ends_with_all_looked_into)
    assert set(hooked.outcomes()) <= {"looked into", "no service is made from this repository"}
    agent.start(HOOK=SECRET)
    assert hooked.runs() == [("web-1", first), ("web-2", newest)]


def test_a_run_goes_on_when_its_branch_is_rewritten_or_deleted(hooked: Hooked) -> None:
    agent, repository = hooked.shop.agent, hooked.shop.repository
    hooked.start(
        'install = "sleep 2"\nunit_test = "cat hello"\nbuild.dockerfile = "none"\n'
        'triggers = ["main"]\nrefs = ["refs/heads/try/*"]'
    )
    until(lambda: agent.client.status()[0]["head"] is not None)
    repository.git("checkout", "--quiet", "-b", "try/it")
    tried = hooked.shop.commit({"hello": "tried\n"})
    assert hooked.push("refs/heads/try/it") == 202
    until(lambda: hooked.runs() == [("web-1", tried)])
    repository.git("checkout", "--quiet", "main")
    repository.git("branch", "-D", "try/it")
    assert hooked.push("refs/heads/try/it") == 202
    pushed = hooked.shop.commit({"hello": "pushed\n"})
    assert hooked.push() == 202
    until(lambda: hooked.runs()[1:] == [("web-2", pushed)])
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    rewritten = hooked.shop.commit({"hello": "rewritten\n"})
    assert hooked.push() == 202
    until(lambda: hooked.runs()[2:] == [("web-3", rewritten)])
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")  # the remote has neither commit any more
    for run, said in (("web-1", "tried"), ("web-2", "pushed"), ("web-3", "rewritten")):
        ended = agent.wait_run(run, RUN_ENDED)
        assert states_of(ended)["unit_test"] == "success"
        assert said in agent.read_log(run, "unit_test")
    assert len(hooked.runs()) == 3
