"""The client of GitHub's API, against the fake that is held to GitHub's own description."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from harness.github import FakeGitHub, FakeRepository, Fault, Token, fake_github
from seamless.errors import RefusedError, UsageError
from seamless.forges import CommitGoneError, Credentials, RemoteProblem, Repository
from seamless.forges.git import GitForge
from seamless.forges.github import (
    Access,
    CommitStatus,
    GitHub,
    GitHubError,
    MergeMethod,
    MergeRefusedError,
    Permission,
    StatusState,
)
from seamless.forges.github.client import GitHubClient
from seamless.forges.github.session import limited_s

pytestmark = pytest.mark.fake

T = TypeVar("T")
TOKEN = "ghp_s3cr3ts3cr3t"
FINE = "github_pat_s3cr3t"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with fake_github(tmp_path / "github") as server:
        server.tokens[TOKEN] = Token()
        yield server


@pytest.fixture
def payment(github: FakeGitHub) -> FakeRepository:
    return github.add("acme/payment", {"a": "1\n"})


def on(github: FakeGitHub, name: str = "acme/payment", token: str | None = TOKEN) -> Repository:
    return Repository(f"{github.url}/{name}.git", Credentials("x-access-token", token))


def ask(github: FakeGitHub, *calls: Callable[[GitHub], Awaitable[T]]) -> list[T]:
    """What these calls of one client give, one after the other."""

    async def main() -> list[T]:
        client: GitHub = GitHubClient(github.api_url, timeout_s=60)
        return [await call(client) for call in calls]

    return asyncio.run(main())


def refused(github: FakeGitHub, call: Callable[[GitHub], Awaitable[object]]) -> GitHubError:
    with pytest.raises(GitHubError) as error:
        ask(github, call)
    assert TOKEN not in f"{error.value.message} {error.value.hint}"
    return error.value


def test_pull_requests_are_listed_once_and_then_only_when_something_changed(
    github: FakeGitHub, payment: FakeRepository
) -> None:
    payment.push({"b": "2\n"}, branch="feature/x")
    opened = payment.open_pull("feature/x", "A change", draft=True)
    fork = github.add("eve/payment", {"a": "1\n"})
    fork.push({"evil": "x\n"})
    theirs = payment.open_pull("main", "Theirs", author="eve", fork=fork)
    repository = on(github)

    async def main() -> None:
        client = GitHubClient(github.api_url)
        found = await client.open_pull_requests(repository)
        assert found is not None
        assert [pull.number for pull in found.open] == [theirs.number, opened.number]
        their, own = found.open
        assert (own.head, own.head_ref, own.base_ref, own.is_draft, own.is_fork) == (
            opened.head,
            "feature/x",
            "main",
            True,
            False,
        )
        assert (their.author, their.is_fork, their.ref) == ("eve", True, "refs/pull/2/head")
        assert await client.open_pull_requests(repository, etag=found.etag) is None
        head = payment.push({"b": "3\n"}, branch="feature/x")
        again = await client.open_pull_requests(repository, etag=found.etag)
        assert again is not None
        assert again.open[0].head == head
        assert (await client.pull_request(repository, 1)).head == head
        payment.pulls[1].state = "closed"
        assert (await client.pull_request(repository, 1)).is_open is False

    asyncio.run(main())
    assert [status for _, _, status in github.asked(r"GET .*/pulls$")] == [200, 304, 200]


def test_more_pull_requests_than_a_page_holds(github: FakeGitHub, payment: FakeRepository) -> None:
    head = payment.push({"b": "2\n"}, branch="x")
    payment.open_pull("x")
    for number in range(2, 102):
        payment.pulls[number] = replace(payment.pulls[1], number=number)
    (found,) = ask(github, lambda client: client.open_pull_requests(on(github)))
    assert found is not None
    assert sorted(pull.number for pull in found.open) == list(range(1, 102))
    assert {pull.head for pull in found.open} == {head}
    assert len(github.asked(r"GET .*/pulls$")) == 2


def test_a_status_names_the_commit_and_fits(github: FakeGitHub, payment: FakeRepository) -> None:
    head = payment.head("main")
    words = "unit_test: exit code 1\nof " + "x" * 300
    status = CommitStatus(StatusState.FAILURE, "seamless/payment", words)
    ask(github, lambda client: client.set_status(on(github), head, status))
    (shown,) = payment.statuses[head]
    assert (shown["state"], shown["context"]) == ("failure", "seamless/payment")
    assert shown["description"].startswith("unit_test: exit code 1 of xxx")
    assert len(shown["description"]) == 140
    with pytest.raises(CommitGoneError, match="fffffff"):
        ask(github, lambda client: client.set_status(on(github), "f" * 40, status))


@pytest.mark.parametrize("method", MergeMethod)
def test_merging(github: FakeGitHub, payment: FakeRepository, method: MergeMethod) -> None:
    head = payment.push({"b": "2\n"}, branch="x")
    payment.push({"c": "3\n"})
    payment.open_pull("x")
    merged, again = ask(github, *[lambda client: client.merge(on(github), 1, head, method)] * 2)
    assert merged == again == payment.head("main")  # asked again it says what came of it
    assert merged != head
    assert payment.pulls[1].state == "closed"


def _merge(github: FakeGitHub, head: str, method: MergeMethod = MergeMethod.MERGE) -> MergeRefusedError:
    with pytest.raises(MergeRefusedError) as error:
        ask(github, lambda client: client.merge(on(github), 1, head, method))
    return error.value


def test_what_is_not_merged_and_why(github: FakeGitHub, payment: FakeRepository) -> None:
    head = payment.push({"a": "2\n"}, branch="x")
    pull = payment.open_pull("x")

    def why(at: str = head, method: MergeMethod = MergeMethod.MERGE) -> tuple[str, bool]:
        error = _merge(github, at, method)
        return error.message, error.may_change

    assert why("e" * 40) == (f"#1 is at {head[:7]} now, eeeeeee was tested", False)
    pull.is_draft = True
    assert why() == ("#1 is a draft", False)
    pull.is_draft = False
    pull.mergeable_state = "unknown"
    assert why() == ("GitHub does not know yet whether #1 can be merged", True)
    pull.mergeable_state = "behind"
    assert why() == ("#1 must be brought up to date with main, whose rules ask for that", False)
    pull.mergeable_state = None
    payment.required_approvals = 2
    assert why() == ("the rules of main block #1: nobody has approved it", True)  # though the token is an admin's
    pull.reviews = [("eve", "CHANGES_REQUESTED"), ("eve", "COMMENTED"), ("bob", "CHANGES_REQUESTED")]
    pull.reviews += [("bob", "APPROVED")]
    assert why() == ("the rules of main block #1: approved by bob; changes requested by eve", True)
    pull.reviews, payment.required_approvals = [], 0
    payment.merge_methods = {"merge"}
    assert why(method=MergeMethod.SQUASH) == (
        "GitHub refuses: Squash merges are not allowed on this repository.",
        False,
    )
    payment.push({"a": "3\n"})
    assert why() == ("#1 conflicts with main", False)
    pull.state = "closed"
    assert why() == ("#1 is closed", False)
    assert pull.merged_as is None


def test_a_forks_pull_request_is_never_merged(github: FakeGitHub, payment: FakeRepository) -> None:
    fork = github.add("eve/payment", {"a": "1\n"})
    head = fork.push({"b": "x\n"})
    payment.open_pull("main", fork=fork)
    assert _merge(github, head).message == "#1 comes from a fork"
    (pull,) = ask(github, lambda client: client.pull_request(on(github), 1))
    assert replace(pull, head_repository=None).is_fork  # one that is gone


def test_a_head_that_moves_while_it_is_merged(github: FakeGitHub, payment: FakeRepository) -> None:
    head = payment.push({"b": "2\n"}, branch="x")
    payment.open_pull("x")
    go_on = threading.Event()
    reached = threading.Event()
    github.faults.append(Fault(r"PUT .*/merge", until=go_on, reached=reached))

    async def main() -> None:
        client = GitHubClient(github.api_url)
        merging = asyncio.create_task(client.merge(on(github), 1, head, MergeMethod.MERGE))
        await asyncio.to_thread(reached.wait, 10)
        payment.push({"b": "3\n"}, branch="x")
        go_on.set()
        await merging

    with pytest.raises(MergeRefusedError, match=f"{head[:7]} was tested"):
        asyncio.run(main())
    assert payment.pulls[1].merged_as is None


def test_a_github_that_hangs_holds_up_nothing_else_that_is_done_in_threads(
    github: FakeGitHub, payment: FakeRepository
) -> None:
    go_on, reached = threading.Event(), threading.Event()
    github.faults.append(Fault("GET", until=go_on, reached=reached))

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        client = GitHubClient(github.api_url)
        asking = asyncio.create_task(client.identify(on(github)))
        try:
            assert await asyncio.wait_for(asyncio.to_thread(reached.wait, 60), 60)
            assert not asking.done()
        finally:
            go_on.set()
        await asking
        client.close()

    asyncio.run(main())


def test_a_lost_answer_is_found_out(github: FakeGitHub, payment: FakeRepository) -> None:
    head = payment.push({"b": "2\n"}, branch="x")
    payment.open_pull("x")
    github.faults.append(Fault(r"PUT .*/merge", times=1, loses_answer=True))
    error = refused(github, lambda client: client.merge(on(github), 1, head, MergeMethod.SQUASH))
    assert error.problem is RemoteProblem.UNREACHABLE
    (merged,) = ask(github, lambda client: client.merge(on(github), 1, head, MergeMethod.SQUASH))
    assert merged == payment.head("main")
    assert len(github.asked(r"PUT .*/merge")) == 1


def test_a_renamed_repository_is_followed_also_for_writing(github: FakeGitHub, payment: FakeRepository) -> None:
    head = payment.head("main")
    status = CommitStatus(StatusState.PENDING, "seamless/payment", "queued")

    async def main() -> None:
        client = GitHubClient(github.api_url)
        before = await client.identify(on(github))
        await client.set_status(on(github), head, status)
        github.rename(payment, "acme-corp/payments")
        await client.set_status(on(github), head, status)
        payment.push({"b": "2\n"}, branch="x")
        payment.open_pull("x")
        found = await client.open_pull_requests(on(github))
        assert found is not None
        assert len(found.open) == 1
        after = await client.identify(on(github))
        assert (before.id, before.name) == (after.id, "acme/payment")
        assert after.name == "acme-corp/payments"
        github.delete(payment)
        with pytest.raises(GitHubError, match="not there"):
            await client.pull_request(on(github), 1)
        again = github.add("acme/payment", {"a": "1\n"})  # another of the old name
        await client.set_status(on(github), again.head("main"), status)
        assert len(again.statuses) == 1

    asyncio.run(main())
    assert len(payment.statuses[head]) == 2


def test_what_github_refuses_or_does_not_answer(github: FakeGitHub, payment: FakeRepository, tmp_path: Path) -> None:
    def problem(repository: Repository) -> RemoteProblem:
        return refused(github, lambda client: client.open_pull_requests(repository)).problem

    assert problem(on(github, token="ghp_wrong")) is RemoteProblem.REFUSED
    assert problem(on(github, token=None)) is RemoteProblem.REFUSED
    assert problem(on(github, "acme/nothing")) is RemoteProblem.NOT_FOUND
    github.tokens[FINE] = Token(scopes=None, permissions={"contents": "read"})
    error = refused(github, lambda client: client.open_pull_requests(on(github, token=FINE)))
    assert (error.problem, "Resource not accessible" in error.message) == (RemoteProblem.REFUSED, True)
    github.tokens[TOKEN] = Token(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert problem(on(github)) is RemoteProblem.REFUSED
    github.tokens[TOKEN] = Token()
    for fault in (Fault("GET", 1, 502), Fault("GET", 1, 503), Fault("GET", 1, loses_answer=True)):
        github.faults = [fault]
        assert problem(on(github)) is RemoteProblem.UNREACHABLE
    with pytest.raises(UsageError, match="is no repository of"):
        ask(github, lambda client: client.identify(Repository("https://gitlab.com/a/b", Credentials(token=TOKEN))))

    async def slow() -> None:
        await GitHubClient(github.api_url, timeout_s=1).identify(on(github))

    go_on = threading.Event()
    github.faults = [Fault("GET", until=go_on)]
    try:
        with pytest.raises(GitHubError, match="does not answer") as timeout:
            asyncio.run(slow())
        assert timeout.value.problem is RemoteProblem.UNREACHABLE
    finally:
        go_on.set()


def test_after_a_secondary_limit_that_token_asks_no_more_and_others_do(
    github: FakeGitHub, payment: FakeRepository
) -> None:
    github.tokens["ghp_another1"] = Token()
    message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    github.faults = [Fault("GET", 1, 403, {"message": message}, {"Retry-After": "17"})]

    async def main() -> None:
        client = GitHubClient(github.api_url)
        for _ in range(3):
            with pytest.raises(GitHubError) as error:
                await client.open_pull_requests(on(github))
            assert error.value.problem is RemoteProblem.LIMITED
            assert error.value.retry_after_s is not None
            assert 15 < error.value.retry_after_s <= 17
        assert len(github.requests) == 1
        await client.open_pull_requests(on(github, token="ghp_another1"))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "headers", "message", "expected"),
    [
        (403, {"retry-after": "30"}, "You have exceeded a secondary rate limit.", 30),
        (429, {"retry-after": "0"}, "", 1),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1100"}, "API rate limit exceeded", 100),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "999999"}, "API rate limit exceeded", 3600),
        (403, {"x-ratelimit-remaining": "10"}, "You have exceeded a secondary rate limit.", 60),
        (429, {}, "", 60),
        (403, {"x-ratelimit-remaining": "10"}, "Resource not accessible by personal access token", None),
        (403, {"retry-after": "soon"}, "Must have admin rights", None),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1100"}, "", None),
    ],
)
def test_what_is_a_rate_limit(status: int, headers: dict[str, str], message: str, expected: float | None) -> None:
    assert limited_s(status, headers, {"message": message}, now=1000.0) == expected


def test_webhooks(github: FakeGitHub, payment: FakeRepository) -> None:
    url = "http://127.0.0.1:9/webhooks/github"

    async def main() -> None:
        client: GitHub = GitHubClient(github.api_url)
        repository = on(github)
        hook = await client.create_hook(repository, url, "a secret of ours", ["push", "pull_request"])
        assert (hook.url, hook.events, hook.content_type) == (url, ("push", "pull_request"), "json")
        with pytest.raises(RefusedError, match="already exists"):
            await client.create_hook(repository, url, "x", ["push"])
        assert await client.hooks(repository) == [hook]
        changed = await client.update_hook(repository, hook.id, url, "another", ["push"])
        assert changed == replace(hook, events=("push",))
        assert payment.hooks[hook.id].secret == "another"
        await client.ping_hook(repository, hook.id)
        await asyncio.to_thread(github.delivered)
        found = await client.deliveries(repository, hook.id)
        assert [(one.event, one.status_code) for one in found] == [("ping", 502)] * 2
        await client.redeliver(repository, hook.id, found[0].id)
        await asyncio.to_thread(github.delivered)
        newest = (await client.deliveries(repository, hook.id))[0]
        assert (newest.guid, newest.redelivery) == (found[0].guid, True)
        await client.delete_hook(repository, hook.id)
        await client.delete_hook(repository, hook.id)
        assert await client.hooks(repository) == []

    asyncio.run(main())


GRANTED, MISSING, UNCHECKED = Access.GRANTED, Access.MISSING, Access.NOT_CHECKED


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (Token(), [GRANTED] * 5),
        (Token(role="push"), [GRANTED, GRANTED, GRANTED, GRANTED, MISSING]),
        (Token(scopes=("repo:status", "read:org")), [MISSING, MISSING, GRANTED, MISSING, MISSING]),
        (Token(scopes=("write:repo_hook",)), [MISSING, MISSING, MISSING, MISSING, GRANTED]),
        (
            Token(scopes=None, permissions={"contents": "read", "pull_requests": "read", "statuses": "write"}),
            [GRANTED, GRANTED, UNCHECKED, UNCHECKED, MISSING],
        ),
        (
            Token(scopes=None, permissions={"contents": "write", "webhooks": "write"}),
            [GRANTED, MISSING, MISSING, UNCHECKED, UNCHECKED],
        ),
    ],
)
def test_what_a_token_may_do_is_found_out_by_reading(
    github: FakeGitHub, payment: FakeRepository, token: Token, expected: list[Access]
) -> None:
    github.tokens[FINE] = replace(token, expires_at=datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC))
    (found,) = ask(github, lambda client: client.access(on(github, token=FINE)))
    assert [found.access[permission] for permission in Permission] == expected
    assert (found.login, found.kind) == ("seamless-bot", "fine-grained" if token.scopes is None else "classic")
    assert found.expires_at == datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert {method for method, _, _ in github.requests} == {"GET"}


def test_git_clones_with_the_token_also_after_a_rename(
    github: FakeGitHub, payment: FakeRepository, tmp_path: Path
) -> None:
    head = payment.head("main")

    async def fetch(folder: str) -> None:
        forge = GitForge(tmp_path / folder)
        assert (await forge.resolve(on(github), "main")).commit == head
        await forge.fetch(on(github), head, "refs/heads/main")

    asyncio.run(fetch("before"))
    github.rename(payment, "acme-corp/payments")
    asyncio.run(fetch("after"))
    assert {token for _, token in github.git_requests} == {None, TOKEN}
