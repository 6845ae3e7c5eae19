"""What GitHub is told of runs, and the merges that follow: the store, the courier and the real client, with the far
end faked. No run is driven here: its transitions are stored as the driver stores them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.storing import with_store
from harness.github import FakeGitHub, FakePull, FakeRepository, Fault, Token, fake_github
from seamless.agent.merging import EVENT_KIND, GitHubChannel, told
from seamless.agent.outbox import Courier
from seamless.agent.planning import stages_of, trust_of
from seamless.agent.reporting import CHANNEL
from seamless.agent.store import KnownPullRequest, NewRun, Store
from seamless.config import Config, config_from
from seamless.forges.github.client import GitHubClient
from seamless.model import Run, RunOptions, StageName, Trigger
from seamless.transitions import RunEvent, StageEvent

pytestmark = pytest.mark.fake

_WITHIN_S = 60.0
S = StageName


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless.agent.outbox._FIRST_WAIT_S", 0.02)
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_s3cr3t")


@pytest.fixture
def github(tmp_path: Path) -> Iterator[FakeGitHub]:
    with fake_github(tmp_path / "github") as server:
        server.tokens["ghp_s3cr3t"] = Token()
        yield server


@pytest.fixture
def shop(github: FakeGitHub) -> FakeRepository:
    return github.add("acme/shop", {"a": "1\n"})


@dataclass
class Desk:
    """An agent's store, with GitHub at its other end."""

    store: Store
    config: Config
    github: FakeGitHub

    async def start(self, service: str, commit: str, trigger: Trigger = Trigger.MAIN, **more: Any) -> Run:
        options = RunOptions(on_branch=trigger is Trigger.MAIN, **more.pop("options", {}))
        parameters = self.config.services[service]
        new = NewRun(
            service=service,
            trigger=trigger,
            trust=trust_of(trigger, options),
            ref=more.pop("ref", "refs/heads/main"),
            commit=commit,
            subject="a change",
            author="Ada",
            requested_by="github",
            parameters=parameters.model_dump(mode="json"),
            options=options,
            stages=stages_of(trigger, options, use_staging=True),
        )
        return await self.store.runs.create(new)

    async def pull(self, pull: FakePull, service: str = "a", **options: Any) -> Run:
        """A run of a pull request, which every service has looked at."""
        for one in self.config.services:
            await self.look(one, pull)
        return await self.start(
            service, pull.head, Trigger.PR_SYNC, ref=f"refs/pull/{pull.number}/head", options=options
        )

    async def look(self, service: str, pull: FakePull) -> None:
        known = (await self.store.heads.pull_requests(service)).get(pull.number)
        now = KnownPullRequest(pull.number, pull.head, waits=False)
        assert await self.store.heads.advance_pull_request(service, pull.number, known, now)

    async def move(self, run: Run, event: RunEvent, reason: str | None = None) -> Run:
        return await self.store.runs.transition(await self.store.runs.get(run.id), event, reason=reason)

    async def end_stages(self, run: Run, **reasons: str) -> None:
        """Every stage that is not a deployment succeeds, those in `reasons` fail."""
        for stage in (await self.store.runs.get(run.id)).stages:
            if stage.name.startswith("deploy"):
                continue
            started = await self.store.runs.transition_stage(run, stage, StageEvent.START)
            event = StageEvent.FAIL if stage.name in reasons else StageEvent.SUCCEED
            await self.store.runs.transition_stage(run, started, event, reason=reasons.get(stage.name))

    async def succeed(self, run: Run) -> Run:
        run = await self.move(run, RunEvent.START)
        await self.end_stages(run)
        return await self.move(run, RunEvent.SUCCEED)

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._courier.deliver())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def connect(self) -> None:
        channel = GitHubChannel(lambda: self.config, self.store, GitHubClient(self.github.api_url, timeout_s=60))
        self.store.events.listeners[:] = [channel.listen]
        self._courier = Courier(self.store, {CHANNEL: channel.deliver})

    async def settled(self) -> None:
        """Until nothing waits in the outbox."""
        await self.until(lambda: self._nothing_waits())

    async def _nothing_waits(self) -> bool:
        return not await self.store.outbox.first_of_topics([CHANNEL])

    async def until(self, holds: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(_WITHIN_S):
            while True:
                if await holds():
                    return
                await asyncio.sleep(0.01)

    async def merge_of(self, run: Run) -> str | None:
        return told(await self.store.events.last(EVENT_KIND, run.id))


SERVICES: dict[str, dict[str, Any]] = {"a": {"auto_merge": "squash"}, "b": {"path": "b"}}


def play(tmp_path: Path, github: FakeGitHub, body: Callable[[Desk], Awaitable[None]], **more: Any) -> None:
    services = {
        name: {"repo": f"{github.url}/acme/shop.git", **own, **more.get(name, {})} for name, own in SERVICES.items()
    }
    data = {"github": {"token": {"env": "GITHUB_TOKEN"}, "api_url": github.api_url}, "services": services}
    config = config_from(data, tmp_path / "seamless.toml")

    async def main(store: Store) -> None:
        desk = Desk(store, config, github)
        desk.connect()
        await body(desk)

    with_store(tmp_path / "seamless.db", main)


def shown(repository: FakeRepository, commit: str) -> list[tuple[str, str, str]]:
    """(context, state, description), oldest first."""
    found = repository.statuses.get(commit, [])
    return [(one["context"], one["state"], one["description"]) for one in reversed(found)]


def test_each_state_of_a_run_is_told_with_why(tmp_path: Path, github: FakeGitHub, shop: FakeRepository) -> None:
    head = shop.head("main")

    async def body(desk: Desk) -> None:
        async def tell(run: Run, event: RunEvent, reason: str | None = None) -> Run:
            run = await desk.move(run, event, reason)
            await desk.settled()
            return run

        async with desk.delivering():
            run = await desk.start("a", head)
            await desk.settled()
            await tell(run, RunEvent.START)
            await desk.end_stages(run)
            await tell(run, RunEvent.AWAIT_APPROVAL, "staging runs 1234567 and is healthy")
            await tell(run, RunEvent.EXPIRE, "nobody approved it in time")
            failing = await tell(await desk.start("a", head), RunEvent.START)
            await desk.end_stages(failing, unit_test="3 of 40 tests failed", code_quality="exit code 1")
            await tell(failing, RunEvent.FAIL, "unit_test failed")
            cancelled = await tell(await desk.start("a", head), RunEvent.START)
            await tell(cancelled, RunEvent.SUPERSEDE, "superseded by a-4")
            await tell(await desk.start("b", head), RunEvent.CANCEL, "cancelled by ada")

    play(tmp_path, github, body)
    assert [one for one in shown(shop, head) if "a-1" in one[2] or "queued" not in one[2]] == [
        ("seamless/a", "pending", "a-1: queued"),
        ("seamless/a", "pending", "a-1: running"),
        ("seamless/a", "pending", "a-1: waits for approval: staging runs 1234567 and is healthy"),
        ("seamless/a", "success", "a-1: all checks passed; not deployed: nobody approved it in time"),
        ("seamless/a", "pending", "a-2: running"),
        ("seamless/a", "failure", "a-2: code_quality: exit code 1 (and 1 more)"),
        ("seamless/a", "pending", "a-3: running"),
        ("seamless/a", "error", "a-3: cancelled: superseded by a-4"),
        ("seamless/b", "error", "b-1: cancelled by ada"),
    ]


@pytest.mark.parametrize(
    ("trigger", "options"),
    [(Trigger.ROLLBACK, {}), (Trigger.PROMOTE, {}), (Trigger.MANUAL, {"local": True})],
)
def test_what_says_nothing_about_a_commit_is_not_told(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository, trigger: Trigger, options: dict[str, Any]
) -> None:
    async def body(desk: Desk) -> None:
        if trigger is Trigger.ROLLBACK:
            options["environment"] = "production"
        await desk.start("a", shop.head("main"), trigger, options=options)
        assert await desk._nothing_waits()

    play(tmp_path, github, body)


def test_what_could_not_be_told_for_a_while_is_told_as_it_is_then(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository
) -> None:
    """GitHub is down, then limits us, then loses an answer; another repository's service does not notice."""
    other = github.add("acme/other", {"a": "1\n"})
    head = shop.head("main")
    github.faults = [
        Fault("/acme/shop", 3, 503),
        Fault("/acme/shop", 1, 403, {"message": "You have exceeded a secondary rate limit."}, {"Retry-After": "1"}),
        Fault("/acme/shop", 2, 502),
        Fault("POST .*/acme/shop", 1, loses_answer=True),
    ]

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.start("a", head)
            beside = await desk.start("b", other.head("main"))
            await desk.until(lambda: desk.store.outbox.problem("a"))
            await desk.succeed(beside)
            await desk.succeed(run)
            await desk.settled()
            assert await desk.store.outbox.problem("a") is None

    play(tmp_path, github, body, b={"repo": f"{github.url}/acme/other.git"})
    assert shown(shop, head)[-1] == ("seamless/a", "success", "a-1: all checks passed")
    assert [fault.times for fault in github.faults] == [0, 0, 0, 0]
    assert shown(other, other.head("main"))[-1][1] == "success"


def test_a_revoked_token_is_the_services_problem_until_there_is_another(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository
) -> None:
    github.tokens.clear()

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            await desk.start("a", shop.head("main"))
            await desk.until(lambda: desk.store.outbox.problem("a"))
            problem = await desk.store.outbox.problem("a") or ""
            assert "refuses the token" in problem
            assert "ghp_" not in problem
            github.tokens["ghp_s3cr3t"] = Token()
            await desk.settled()

    play(tmp_path, github, body)
    assert [state for _, state, _ in shown(shop, shop.head("main"))] == ["pending"]


def test_a_commit_that_is_gone_is_given_up(tmp_path: Path, github: FakeGitHub, shop: FakeRepository) -> None:
    async def body(desk: Desk) -> None:
        async with desk.delivering():
            await desk.start("a", "f" * 40)
            await desk.settled()
        (event,) = await desk.store.events.page(kind="message")
        assert "takes no status for fffffff" in (event.reason or "")

    play(tmp_path, github, body)


# -- merging


def a_pull(repository: FakeRepository, files: dict[str, str | None] | None = None) -> FakePull:
    repository.push(files or {"b": "2\n"}, branch="x")
    return repository.open_pull("x", "A change")


def test_a_pull_request_is_merged_when_its_checks_have_passed_and_github_knows(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository
) -> None:
    pull = a_pull(shop)

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.succeed(await desk.pull(pull))
            await desk.settled()
            assert await desk.merge_of(run) == f"#1 merged as {shop.head('main')[:7]} (squash)"

    play(tmp_path, github, body)
    assert pull.merged_as == shop.head("main")
    assert shown(shop, pull.head)[-1] == ("seamless/a", "success", "a-1: all checks passed")
    told_then_merged = [
        method for method, path, _ in github.requests if "/statuses/" in path or path.endswith("/merge")
    ]
    assert told_then_merged[-2:] == ["POST", "PUT"]


def _no_change(_: FakePull) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "options", "why"),
    [
        (lambda pull: setattr(pull, "is_draft", True), {}, "#1 is a draft"),
        (lambda pull: setattr(pull, "mergeable_state", "dirty"), {}, "#1 conflicts with main"),
        (lambda pull: setattr(pull, "state", "closed"), {}, "#1 is closed"),
        (_no_change, {"fork": True}, None),
    ],
)
def test_a_refusal_is_shown_and_final(
    tmp_path: Path,
    github: FakeGitHub,
    shop: FakeRepository,
    spoil: Callable[[FakePull], None],
    options: dict[str, Any],
    why: str | None,
) -> None:
    pull = a_pull(shop)
    spoil(pull)

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.succeed(await desk.pull(pull, **options))
            await desk.settled()
            assert await desk.merge_of(run) == (None if why is None else f"not merged: {why}")
            assert await desk.store.outbox.problem("a") is None

    play(tmp_path, github, body)
    assert pull.merged_as is None
    assert github.asked("PUT") == []
    words = "all checks passed" if why is None else f"all checks passed; not merged: {why}"
    assert shown(shop, pull.head)[-1] == ("seamless/a", "success", f"a-1: {words}")


def test_a_merge_waits_for_reviews_and_is_dropped_for_a_newer_run(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository
) -> None:
    shop.required_approvals = 1
    pull = a_pull(shop)

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.succeed(await desk.pull(pull))
            await desk.until(lambda: desk.merge_of(run))
            assert await desk.merge_of(run) == "waits: the rules of main block #1: nobody has approved it"
            again = await desk.move(await desk.pull(pull), RunEvent.START)  # a rerun: the old success counts no more
            await desk.settled()
            await desk.end_stages(again, unit_test="exit code 1")
            await desk.move(again, RunEvent.FAIL, "unit_test failed")
            pull.reviews.append(("bob", "APPROVED"))
            await desk.settled()
            assert pull.merged_as is None
            third = await desk.succeed(await desk.pull(pull))
            await desk.settled()
            assert (await desk.merge_of(third) or "").startswith("#1 merged as")
            events = await desk.store.events.page(kind=EVENT_KIND)
            assert [(event.run, event.name) for event in events] == [("a-1", "wait"), ("a-3", "merge")]

    play(tmp_path, github, body)


def _outcomes() -> Sequence[tuple[RunEvent, str | None, bool]]:
    return [(RunEvent.SUCCEED, None, True), (RunEvent.FAIL, "unit_test failed", False)]


@pytest.mark.parametrize(("event", "reason", "merges"), _outcomes())
def test_other_services_of_the_same_pull_request_must_have_passed_too(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository, event: RunEvent, reason: str | None, merges: bool
) -> None:
    pull = a_pull(shop)

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            beside = await desk.move(await desk.pull(pull, "b"), RunEvent.START)
            run = await desk.succeed(await desk.pull(pull, "a"))
            await desk.until(lambda: desk.merge_of(run))
            assert await desk.merge_of(run) == "waits: b-1 has not ended"
            await desk.move(beside, event, reason)
            await desk.settled()
            merged = await desk.merge_of(run) or ""
            assert merged.startswith("#1 merged") if merges else merged == "not merged: b-1: failure"

    play(tmp_path, github, body)
    assert (pull.merged_as is not None) == merges


def test_a_merge_waits_until_every_service_of_the_repository_has_seen_the_commit(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository
) -> None:
    pull = a_pull(shop)

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.pull(pull)
            pull.head = shop.push({"c": "3\n"}, branch=pull.branch)
            await desk.move(run, RunEvent.START)
            await desk.end_stages(run)
            await desk.move(run, RunEvent.SUCCEED)
            newer = await desk.start("a", pull.head, Trigger.PR_SYNC, ref=f"refs/pull/{pull.number}/head")
            newer = await desk.succeed(newer)
            await desk.until(lambda: desk.merge_of(newer))
            assert await desk.merge_of(newer) == f"waits: b has not looked at {pull.head[:7]} yet"
            assert pull.merged_as is None
            await desk.look("b", pull)
            await desk.settled()
            assert (await desk.merge_of(newer) or "").startswith("#1 merged")

    play(tmp_path, github, body)


def test_a_merge_that_has_waited_for_a_week_is_refused_and_says_so(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seamless.agent.merging.MOST_ATTEMPTS", 2)
    shop.required_approvals = 1
    pull = a_pull(shop)

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.succeed(await desk.pull(pull))
            await desk.settled()
            assert await desk.merge_of(run) == "not merged: the rules of main block #1: nobody has approved it"

    play(tmp_path, github, body)


def test_a_merge_whose_answer_was_lost_is_made_once(tmp_path: Path, github: FakeGitHub, shop: FakeRepository) -> None:
    pull = a_pull(shop)
    github.faults = [Fault("PUT", 1, loses_answer=True)]

    async def body(desk: Desk) -> None:
        async with desk.delivering():
            run = await desk.succeed(await desk.pull(pull))
            await desk.settled()
            assert await desk.merge_of(run) == f"#1 merged as {shop.head('main')[:7]} (squash)"

    play(tmp_path, github, body)
    assert len(github.asked("PUT")) == 1


def test_a_service_without_a_token_or_elsewhere_tells_nobody(
    tmp_path: Path, github: FakeGitHub, shop: FakeRepository
) -> None:
    async def body(desk: Desk) -> None:
        desk.config = dataclasses.replace(
            desk.config,
            services={
                "a": desk.config.services["a"].model_copy(update={"repo": "https://gitlab.example/acme/shop"}),
                "b": desk.config.services["b"].model_copy(update={"git": type(desk.config.services["b"].git)()}),
            },
        )
        for service in ("a", "b"):
            await desk.start(service, shop.head("main"))
        assert await desk._nothing_waits()

    play(tmp_path, github, body)
