"""GitHub as a user meets it: logging in, and the whole way from a pull request to production. The far end is faked."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from e2e.conftest import DOCKERFILE
from forges.servers import free_port
from harness.agents import Agent, states_of
from harness.github import FakeGitHub, FakePull, FakeRepository, Token, fake_github
from harness.invariants import await_cleaned
from seamless.wire import RunJSON

pytestmark = [pytest.mark.engine, pytest.mark.fake]

TOKEN = "ghp_s3cr3ts3cr3ts3cr3t"
FINE = "github_pat_s3cr3ts3cr3t"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with fake_github(tmp_path / "github") as server:
        server.tokens[TOKEN] = Token()
        yield server


@pytest.fixture
def payment(github: FakeGitHub, agent: Agent) -> FakeRepository:
    files: dict[str, str | None] = {"Dockerfile": DOCKERFILE.format(image=agent.image), "check": "true\n"}
    return github.add("acme/payment", files)


def configure(agent: Agent, github: FakeGitHub, service: str, *, of_agent: str = "", of_github: str = "") -> None:
    agent.configure(
        f'[services.payment]\nrepo = "{github.url}/acme/payment.git"\n{service}',
        more=f'[github]\napi_url = "{github.api_url}"\n{of_github}',
        agent=of_agent,
    )


def until(holds: Callable[[], object], agent: Agent, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, agent.said()[-5000:]
        time.sleep(0.1)


def cli(agent: Agent, *arguments: str, typed: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        agent.command(*arguments),
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **variables},
    )


def holding(folder: Path, text: str) -> list[str]:
    """The files below that hold the text."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes()
    ]


def test_logging_in_stores_a_token_that_works_and_says_what_it_may_not(
    agent: Agent, github: FakeGitHub, payment: FakeRepository
) -> None:
    service = 'unit_test = "env"\nauto_merge = "squash"'
    configure(agent, github, service, of_github=f'client_id = "{github.client_id}"')
    agent.start()
    looked = cli(agent, "login", "--check")
    assert looked.returncode == 0
    assert "there is no token for GitHub" in looked.stdout

    wrong = cli(agent, "login", "--from-file", "-", typed="ghp_wr0ngwr0ng\n")
    assert wrong.returncode != 0
    assert "refuses the token" in wrong.stderr
    stored = agent.data_dir / "credentials" / "github-token"
    assert not stored.exists()

    github.tokens[FINE] = Token(scopes=None, permissions={"contents": "read", "statuses": "read"})
    lacking = cli(agent, "login", "--from-env", "MY_TOKEN", MY_TOKEN=FINE)
    assert lacking.returncode == 1
    assert "may not: Pull requests: read" in lacking.stdout
    assert "not checked: acme/payment: Commit statuses: write" in lacking.stdout
    assert (stored.read_text(), stored.stat().st_mode & 0o777) == (f"{FINE}\n", 0o600)

    github.authorised = TOKEN
    device = cli(agent, "login", "--device")
    assert device.returncode == 0, device.stderr
    assert "WDJB-MJHT" in device.stderr
    assert "Contents: write" in device.stdout
    assert stored.read_text() == f"{TOKEN}\n"

    run = agent.run("payment", checks=True)
    assert run["state"] == "success", run
    head = payment.head("main")
    until(lambda: payment.statuses.get(head, [{}])[0].get("state") == "success", agent)
    assert payment.statuses[head][0]["description"] == "payment-1: all checks passed"
    assert TOKEN not in agent.read_log("payment-1", "unit_test")
    assert {token for _, token in github.git_requests} == {None, TOKEN}
    await_cleaned(agent)
    assert holding(agent.data_dir, TOKEN) == ["credentials/github-token"]
    assert TOKEN not in agent.said()
    doctor = cli(agent, "doctor")
    assert "acme/payment: Contents: read, Commit statuses: write" in doctor.stdout


@contextmanager
def answering_alike() -> Iterator[str]:
    """The URL of a server that answers 200 to whatever comes, as a proxy may that knows no better."""

    class Alike(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Alike)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _newest(agent: Agent, trigger: str, commit: str) -> RunJSON | None:
    return next((run for run in agent.client.runs() if (run["trigger"], run["commit"]) == (trigger, commit)), None)


def _run_of(agent: Agent, trigger: str, commit: str) -> RunJSON:
    until(lambda: _newest(agent, trigger, commit), agent)
    found = _newest(agent, trigger, commit)
    assert found is not None
    return found


def _shown(payment: FakeRepository, commit: str) -> tuple[str, str]:
    newest = payment.statuses.get(commit, [{"state": "", "description": ""}])[0]
    return newest["state"], newest["description"]


def test_from_a_pull_request_to_production(agent: Agent, github: FakeGitHub, payment: FakeRepository) -> None:
    """Make the webhook, open a pull request, push again while its checks run, see it merged, see the full run, approve
    it. Nothing is polled: GitHub tells of everything."""
    url = f"http://127.0.0.1:{free_port()}"
    secret = agent.data_dir / "credentials" / "webhook-secret"
    listen = url.removeprefix("http://")
    configure(
        agent,
        github,
        'unit_test = "sh ./check"\nauto_merge = "merge"',
        of_agent=f'webhooks = {{ listen = "{listen}", secret = {{ file = "{secret}" }}, public_url = "{url}" }}',
        of_github='token = { env = "GITHUB_TOKEN" }',
    )
    agent.start(GITHUB_TOKEN=TOKEN)
    until(lambda: agent.client.status()[0]["head"] is not None, agent)

    missing = cli(agent, "webhook", "check", "payment")
    assert (missing.returncode, "seamless webhook create payment" in missing.stdout) == (1, True)
    created = cli(agent, "webhook", "create", "payment")
    assert created.returncode == 0, created.stderr
    assert (len(secret.read_text().strip()), secret.stat().st_mode & 0o777) == (64, 0o600)
    checked = cli(agent, "webhook", "check", "payment")
    assert "sent again by GitHub, and arrived here: answered 200" in checked.stdout, checked.stdout + checked.stderr
    hook = next(iter(payment.hooks.values()))
    assert [(one["guid"], one["redelivery"]) for one in hook.deliveries] == [
        (hook.deliveries[1]["guid"], True),
        (hook.deliveries[1]["guid"], False),
    ]
    with answering_alike() as elsewhere:
        hook.leads_to = elsewhere
        astray = cli(agent, "webhook", "check", "payment")
        hook.leads_to = None
    assert (astray.returncode, "did not arrive here, though something answered 200" in astray.stdout) == (1, True)
    hook.payloads.clear()  # GitHub lists a ping that it does not send any more
    fresh = cli(agent, "webhook", "check", "payment").stdout
    assert "sent by GitHub, and arrived here: answered 202" in fresh
    hook.deliveries.clear()  # after three days
    fresh = cli(agent, "webhook", "check", "payment").stdout
    assert "sent by GitHub, and arrived here: answered 202" in fresh
    hook.secret = "another"
    assert "the secrets differ" in cli(agent, "webhook", "check", "payment").stdout
    assert "was there" in cli(agent, "webhook", "create", "payment").stdout
    assert (len(payment.hooks), hook.secret) == (1, secret.read_text().strip())

    first = payment.push({"check": "sleep 1000\n"}, branch="feature")
    payment.required_approvals = 1
    pull: FakePull = payment.open_pull("feature", "Retry card declines")
    github.tell_pull(payment, pull, "opened")
    older = _run_of(agent, "pr_open", first)
    until(lambda: _shown(payment, first) == ("pending", f"{older['id']}: running"), agent)

    second = payment.push({"check": "echo tested\n"}, branch="feature")
    github.tell_pull(payment, pull, "synchronize", before=first, after=second)
    newer = _run_of(agent, "pr_sync", second)
    assert agent.wait_run(older["id"], ["cancelled"])["reason"] == f"superseded by {newer['id']}"
    until(lambda: _shown(payment, first)[0] == "error", agent)
    done = agent.wait_run(newer["id"])
    assert (done["state"], list(states_of(done))) == ("success", ["prepare", "code_quality", "unit_test"])
    until(lambda: _shown(payment, second) == ("success", f"{newer['id']}: all checks passed"), agent)

    until(lambda: agent.client.run(newer["id"])["merge"], agent)
    assert (agent.client.run(newer["id"])["merge"] or "").endswith("nobody has approved it")
    pull.reviews.append(("bob", "APPROVED"))
    github.tell_review(payment, pull)
    until(lambda: pull.merged_as, agent)
    merged = payment.head("main")
    until(lambda: agent.client.run(newer["id"])["merge"] == f"#1 merged as {merged[:7]} (merge)", agent)
    shown = cli(agent, "show", newer["id"])
    assert f"pull request: #1 merged as {merged[:7]} (merge)" in shown.stdout

    full = _run_of(agent, "main", merged)
    waiting = agent.wait_run(full["id"], ["awaiting_approval"])
    until(lambda: _shown(payment, merged)[0] == "pending" and "waits for approval" in _shown(payment, merged)[1], agent)
    assert states_of(waiting)["deploy_staging"] == "success"
    assert agent.approve(full["id"])["state"] == "success"
    until(lambda: _shown(payment, merged) == ("success", f"{full['id']}: deployed to production"), agent)
    status = agent.client.status()[0]
    assert status["production"] is not None
    assert (status["production"]["commit"], status["problem"]) == (merged, None)
    assert cli(agent, "webhook", "delete", "payment").returncode == 0
    assert payment.hooks == {}
