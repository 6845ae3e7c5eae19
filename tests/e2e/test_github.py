"""Pull requests and pushes on GitHub, from its deliveries or from git alone, to the runs that they start and end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import until
from forges.servers import free_port
from harness.agents import Agent, stage_of, states_of
from harness.github import FakeGitHub, FakeRepository, Token, fake_github
from harness.github.state import FakeHook, git
from seamless.errors import RefusedError
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON
from webhooks.examples import SECRET

pytestmark = [pytest.mark.engine, pytest.mark.fake]

TOKEN = "ghp_s3cr3ts3cr3t"
OTHER = "ghp_an0th3rs3cr3t"
PIPELINE = """\
unit_test = "ls . ../docs; echo hidden=${HIDDEN:-none}; while [ -e slow ]; do sleep 1; done"
secrets.HIDDEN = { env = "HIDDEN", expose = ["pr"] }
caches = ["/cache"]
"""
SERVICE = """\
[services.{name}]
repo = "{url}/acme/web.git"
path = "{name}"
{more}
"""


@dataclass
class Team:
    """A repository on GitHub with two services, `web` and `api`, and an agent."""

    github: FakeGitHub
    repository: FakeRepository
    agent: Agent

    def start(self, *, agent: str, web: str = "", api: str = "") -> None:
        services = [
            SERVICE.format(name=name, url=self.github.url, more=more) for name, more in (("web", web), ("api", api))
        ]
        more = f'[github]\napi_url = "{self.github.api_url}"\ntoken = {{ env = "GITHUB" }}\n'
        self.agent.configure("".join(services), pipeline=PIPELINE, agent=agent, more=more)
        self.start_again()
        until(lambda: all(status["head"] is not None for status in self.agent.client.status()))

    def start_again(self) -> None:
        self.agent.start(HOOK=SECRET, GITHUB=TOKEN, HIDDEN="a hidden value")

    def await_run(self, run: str) -> RunJSON:
        """The run, once it is there."""
        until(lambda: any(one["id"] == run for one in self.agent.client.runs(limit=100)))
        return self.agent.client.run(run)

    def runs(self) -> set[str]:
        return {run["id"] for run in self.agent.client.runs(limit=100)}


@pytest.fixture
def team(tmp_path: Path, agent: Agent) -> Iterator[Team]:
    with fake_github(tmp_path / "github") as github:
        github.tokens[TOKEN] = Token()
        files: dict[str, str | None] = {"docs/x": "1\n", "web/x": "1\n", "api/x": "1\n", "web/base": "1\n"}
        yield Team(github, github.add("acme/web", files), agent)
        assert github.violations == []


def test_what_webhooks_tell_of_pull_requests_and_pushes(team: Team) -> None:
    github, repository, agent, client = team.github, team.repository, team.agent, team.agent.client
    port = free_port()
    hook = FakeHook(1, f"http://127.0.0.1:{port}/webhooks/github", SECRET, ["push", "pull_request"])
    repository.hooks[1] = hook
    team.start(agent=f'poll = false\nwebhooks = {{ listen = "127.0.0.1:{port}", secret = {{ env = "HOOK" }} }}')

    # Opened: checks only, of the service that is touched, merged onto the branch as it is by then.
    slow = repository.push({"web/slow": "x\n", "web/theirs": "x\n"}, branch="change")
    pull = repository.open_pull("change")
    repository.push({"docs/ours": "x\n"})
    github.tell_pull(repository, pull, "opened")
    opened = team.await_run("web-1")
    assert (opened["trigger"], opened["trust"], opened["requested_by"]) == ("pr_open", "repository", "webhook")
    assert (opened["commit"], opened["ref"]) == (slow, "refs/pull/1/head")
    assert list(states_of(opened)) == ["prepare", "code_quality", "unit_test"]
    agent.wait_stage("web-1", "unit_test", ["in_progress"])

    # A new commit supersedes it; told twice, and of an older state afterwards, it is still one run.
    quick = repository.push({"web/slow": None}, branch="change")
    github.tell_pull(repository, pull, "synchronize", before=slow, after=quick)
    github.delivered()
    for _ in range(2):
        (guid, event, body) = hook.payloads[max(hook.payloads)]
        github.deliver(hook, event, body, guid=guid)
        github.deliver(hook, event, body + b" ")
    github.tell_pull(repository, pull, "opened")
    synchronized = team.await_run("web-2")
    assert (synchronized["trigger"], synchronized["commit"]) == ("pr_sync", quick)
    superseded = agent.wait_run("web-1", RUN_ENDED)
    assert (superseded["state"], superseded["reason"]) == ("cancelled", "superseded by web-2")
    assert agent.wait_run("web-2", RUN_ENDED)["state"] == "success"
    log = agent.read_log("web-2", "unit_test")
    assert {"ours", "theirs"} <= set(log.split())
    assert "hidden=none" not in log

    # A draft waits until it is ready; closing cancels.
    repository.push({"api/slow": "x\n"}, branch="draft")
    draft = repository.open_pull("draft", draft=True)
    github.tell_pull(repository, draft, "opened")
    draft.is_draft = False
    github.delivered()
    assert team.runs() == {"web-1", "web-2"}
    github.tell_pull(repository, draft, "ready_for_review")
    assert team.await_run("api-1")["trigger"] == "pr_open"
    agent.wait_stage("api-1", "unit_test", ["in_progress"])
    draft.state = "closed"
    github.tell_pull(repository, draft, "closed")
    closed = agent.wait_run("api-1", RUN_ENDED)
    assert (closed["state"], (closed["reason"] or "")[:26]) == ("cancelled", "pull request 2 was closed,")
    with pytest.raises(RefusedError, match="pull request 2 is closed"):
        client.start_run("api", pull_request=2)

    # By hand, then merged in a repository that has another name by now.
    by_hand = client.start_run("web", pull_request=1)
    assert (by_hand["id"], by_hand["trigger"], by_hand["trust"]) == ("web-3", "pr_sync", "repository")
    agent.wait_run("web-3", RUN_ENDED)
    github.rename(repository, "acme/site")
    merged = repository.merge(pull, "merge")
    github.tell_merged(repository, pull)
    main = team.await_run("web-4")
    assert (main["trigger"], main["trust"], main["commit"]) == ("main", "trusted", merged)
    github.delivered()
    agent.stop()
    team.start_again()  # a look at everything finds nothing that was not told
    github.delivered()
    assert team.runs() == {"web-1", "web-2", "web-3", "web-4", "api-1"}

    # Somebody takes the name that was given up: that is another repository, whoever asks and whatever is told.
    github.add("acme/web", {"web/x": "theirs\n", "api/x": "theirs\n"})
    with pytest.raises(RefusedError, match="is another repository than before"):
        client.start_run("api")
    github.tell_push(repository, "main", merged, repository.push({"web/x": "ours\n"}))
    until(lambda: all("another repository" in (status["problem"] or "") for status in client.status()))
    assert team.runs() == {"web-1", "web-2", "web-3", "web-4", "api-1"}
    with contextlib.suppress(RefusedError):  # it may have ended by itself
        client.cancel("web-4", "")
    agent.wait_run("web-4", RUN_ENDED)
    assert [status for delivery in hook.deliveries if (status := delivery["status_code"]) not in (200, 202)] == []


def test_forks_wait_for_someones_word_and_what_was_missed_is_caught_up_with(team: Team) -> None:
    github, repository, agent, client = team.github, team.repository, team.agent, team.agent.client
    team.start(agent="poll = true", web='poll_interval = "1s"\nforks = "approve"', api='poll_interval = "1s"')
    fork = github.add("eve/web")
    git(fork.bare, "fetch", "--quiet", str(repository.bare), "main:main")
    theirs = fork.push({"web/theirs": "x\n", "api/theirs": "x\n"})
    pull = repository.open_pull("main", author="eve", fork=fork)
    waiting = team.await_run("web-1")
    waiting = agent.wait_run("web-1", ["awaiting_approval"])
    assert (waiting["trust"], waiting["commit"], waiting["requested_by"]) == ("untrusted", theirs, "poller")
    assert set(states_of(waiting).values()) == {"idle"}
    assert waiting["approval"] is not None
    assert (waiting["approval"]["lets_through"], waiting["approval"]["commits_known"]) == ("checks", True)
    until(lambda: any(event["name"] == "skip" for event in client.events(kind="service", service="api")))
    with pytest.raises(RefusedError, match="forks are off"):
        client.start_run("api", pull_request=1)
    with pytest.raises(RefusedError, match="is on no branch or tag"):
        client.start_run("api", ref=theirs)
    bare = client.start_run("web", ref=theirs)
    assert (bare["id"], bare["trust"]) == ("web-2", "untrusted")
    agent.wait_run("web-2", ["awaiting_approval"])
    client.reject("web-2", "the pull request is enough")

    # The word is for that commit: a rerun keeps it, another commit needs its own.
    client.approve("web")
    passed = agent.wait_run("web-1", RUN_ENDED)
    assert (passed["state"], list(states_of(passed))) == ("success", ["prepare", "code_quality", "unit_test"])
    assert "hidden=none" in agent.read_log("web-1", "unit_test")
    assert stage_of(passed, "unit_test")["attempt"] == 1
    again = client.rerun("web-1")
    assert agent.wait_run(again["id"])["state"] == "success"
    fork.push({"web/more": "x\n"})
    git(repository.bare, "fetch", "--quiet", str(fork.bare), "main")
    repository.move(pull, fork.head("main"))
    team.await_run("web-4")
    agent.wait_run("web-4", ["awaiting_approval"])
    pull.state = "closed"  # changes no ref
    assert agent.wait_run("web-4", RUN_ENDED)["state"] == "cancelled"

    # Offline for days: the newest commit of every branch and open pull request.
    agent.stop()
    repository.push({"web/a": "x\n"})
    head = repository.push({"web/b": "x\n"})
    repository.push({"api/a": "x\n"}, branch="change")
    change = repository.push({"api/b": "x\n"}, branch="change")
    repository.open_pull("change")
    team.start_again()
    assert team.await_run("web-5")["commit"] == head
    assert team.await_run("api-1")["commit"] == change
    assert len(team.runs()) == 6

    # A revoked token pauses what is on GitHub, and says so.
    del github.tokens[TOKEN]
    until(lambda: all(status["problem"] is not None for status in client.status()))
    github.tokens[TOKEN] = Token()
    until(lambda: all(status["problem"] is None for status in client.status()))
    assert len(team.runs()) == 6
    for run in client.runs():
        with contextlib.suppress(RefusedError):  # it may have ended by itself
            client.cancel(run["id"], "")
        agent.wait_run(run["id"], RUN_ENDED)


def test_a_revoked_token_pauses_what_it_was_for_and_nothing_else(team: Team) -> None:
    """Two repositories with a token each."""
    github, web, agent, client = team.github, team.repository, team.agent, team.agent.client
    other = github.add("acme/other", {"x": "1\n"})
    github.tokens[OTHER] = Token()
    services = [
        f'[services.{name}]\nrepo = "{github.url}/acme/{name}"\npoll_interval = "1s"\ntriggers = ["main"]\n'
        f'unit_test = "true"\ngit.token = {{ env = "{variable}" }}\n'
        for name, variable in (("web", "GITHUB"), ("other", "OTHER"))
    ]
    agent.configure("".join(services), agent="poll = true", more=f'[github]\napi_url = "{github.api_url}"\n')
    agent.start(GITHUB=TOKEN, OTHER=OTHER)
    until(lambda: all(status["head"] is not None for status in client.status()))

    del github.tokens[TOKEN]
    missed = web.push({"web/x": "2\n"})
    until(lambda: {status["service"]: status["problem"] for status in client.status()}["web"] is not None)
    pushed = other.push({"x": "2\n"})
    assert team.await_run("other-1")["commit"] == pushed
    until(lambda: other.statuses.get(pushed))
    problems = {status["service"]: status["problem"] for status in client.status()}
    assert problems["other"] is None
    assert "refuses" in (problems["web"] or "")
    assert "seamless login" in " ".join(agent.cli("status").stdout.split())  # it is folded
    assert team.runs() == {"other-1"}
    paused = [event for event in client.events(kind="service") if event["name"] == "pause"]
    assert [event["service"] for event in paused] == ["web"]

    github.tokens[TOKEN] = Token()
    assert team.await_run("web-1")["commit"] == missed
    until(lambda: all(status["problem"] is None for status in client.status()))
    for run in client.runs():
        with contextlib.suppress(RefusedError):  # it may have ended by itself
            client.cancel(run["id"], "")
        agent.wait_run(run["id"], RUN_ENDED)
