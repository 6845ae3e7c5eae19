"""One repository's watcher over a real store, with a remote, a GitHub and arrivals that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.test_triggers import pull_request, service
from seamless.agent import watcher as module
from seamless.agent.arrivals import Arrivals, Place
from seamless.agent.reporting import CHANNEL, topic_of
from seamless.agent.resources import Resources
from seamless.agent.store import KnownPullRequest, Store
from seamless.agent.triggers import PullRequestChange, RefChange
from seamless.agent.watcher import Hint, Watched, Watcher
from seamless.config import Git
from seamless.errors import SeamlessError
from seamless.forges import RemoteProblem, RemoteUnavailableError, Repository
from seamless.forges.github import GitHubError, HostedRepository, PullRequest, PullRequests
from seamless.model import utc_now

MAIN = "refs/heads/main"
URL = "https://github.test/acme/web"


@dataclass
class Scripted:
    """The remote, GitHub, and what becomes of news. What is asked is kept in `asked`, what arrives in `arrived`."""

    store: Store
    refs: dict[str, str] = field(default_factory=lambda: {MAIN: "a"})
    pulls: list[PullRequest] = field(default_factory=list)
    identity: int = 7
    asked: list[str] = field(default_factory=list)
    arrived: list[tuple[str, object]] = field(default_factory=list)
    attended: list[int] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    interval_s: float | None = None
    told: list[bool] = field(default_factory=list)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.fails:
            raise self.fails[what]

    # the forge

    async def heads(self, repository: Repository, patterns: Sequence[str]) -> Mapping[str, str]:
        self._ask("heads")
        pulls = {one.ref: one.head for one in self.pulls if "refs/pull/*/head" in patterns}
        listed = {**self.refs, **pulls}
        return {ref: listed[ref] for ref in listed if any(fnmatchcase(ref, pattern) for pattern in patterns)}

    # GitHub

    async def identify(self, repository: Repository) -> HostedRepository:
        self._ask("identify")
        return HostedRepository(self.identity, "acme/web", "main")

    async def open_pull_requests(self, repository: Repository, *, etag: str | None = None) -> PullRequests | None:
        self._ask("open_pull_requests")
        now = repr(self.pulls)
        return None if etag == now else PullRequests([one for one in self.pulls if one.is_open], now)

    async def pull_request(self, repository: Repository, number: int) -> PullRequest:
        self._ask(f"pull_request {number}")
        for one in self.pulls:
            if one.number == number:
                return one
        raise GitHubError("there is none", RemoteProblem.NOT_FOUND)

    # arrivals

    async def of_ref(self, place: Place, change: RefChange) -> None:
        self._ask(f"of_ref {change.after}")
        if await self.store.heads.advance(place.service, change.ref, change.before, change.after):
            self.arrived.append((place.service, change))

    async def of_pull_request(
        self, place: Place, change: PullRequestChange, before: KnownPullRequest | None, base: str
    ) -> None:
        self._ask(f"of_pull_request {change.number}")
        now = change.now
        after = None if now is None else KnownPullRequest(now.number, now.head, waits=False)
        assert await self.store.heads.advance_pull_request(place.service, change.number, before, after)
        self.arrived.append((place.service, (str(change.event), change.number, base)))

    async def attend(self, deliveries: Sequence[int]) -> None:
        self.attended += deliveries

    def seen(self) -> list[tuple[str, object]]:
        arrived, self.arrived = self.arrived, []
        return arrived

    async def problem(self, name: str = "web") -> str | None:
        return await self.store.heads.problem(name)


def play(
    folder: Path, body: Callable[[Scripted, Watcher], Awaitable[None]], *, hosted: bool = True, **services: Any
) -> None:
    async def main() -> None:
        store = await Store.open(folder / "seamless.db")
        try:
            scripted = Scripted(store)
            resources = SimpleNamespace(
                store=store, forge=scripted, github_of=lambda url, git: scripted if hosted else None
            )

            def interval_s(is_told: bool) -> float | None:
                scripted.told.append(is_told)
                return scripted.interval_s

            watcher = Watcher(
                Watched(URL, Git()),
                services or {"web": service()},
                cast("Resources", resources),
                cast("Arrivals", scripted),
                interval_s=interval_s,
                attended=scripted.attend,
            )
            await body(scripted, watcher)
        finally:
            await store.close()

    asyncio.run(main())


async def look(watcher: Watcher, *hints: Hint) -> SeamlessError | None:
    """One look: at everything, or at what the hints name."""
    return await watcher._look(list(hints) or None)


def test_what_is_there_at_first_starts_nothing_and_every_change_is_news_once(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        scripted.pulls = [pull_request(1)]
        assert await look(watcher) is None
        assert scripted.seen() == [("web", ("noted", 1, "a"))]
        assert await look(watcher) is None
        assert scripted.seen() == []
        scripted.refs[MAIN] = "b"
        scripted.pulls = [pull_request(1, "x"), pull_request(2)]
        assert await look(watcher) is None
        expected = [("synchronized", 1, "b"), ("opened", 2, "b")]
        assert scripted.seen() == [("web", RefChange(MAIN, "a", "b")), *(("web", one) for one in expected)]
        assert await look(watcher) is None
        assert scripted.seen() == []

    play(tmp_path, body)


def test_the_api_is_asked_only_when_git_shows_a_change_or_its_answer_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        assert scripted.asked == ["heads", "identify", "open_pull_requests"]
        scripted.asked.clear()
        for _ in range(3):
            await look(watcher)
        assert scripted.asked == ["heads"] * 3
        monkeypatch.setattr(module, "_API_ANSWER_OLD_S", 0.0)
        await look(watcher)
        assert scripted.asked[3:] == ["heads", "open_pull_requests"]
        scripted.asked.clear()
        scripted.refs[MAIN] = "b"
        await look(watcher)
        assert scripted.asked[:2] == ["heads", "identify"]

    play(tmp_path, body)


def test_a_repository_elsewhere_is_asked_by_git_alone(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        await look(watcher, Hint(1, pull_request=3))
        assert set(scripted.asked) == {"heads"}

    play(tmp_path, body, hosted=False)


def test_a_hint_is_looked_at_and_nothing_else(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        scripted.refs["refs/tags/v1"] = "t"
        await look(watcher)
        scripted.asked.clear()
        scripted.refs |= {MAIN: "b", "refs/tags/v1": "u"}
        scripted.pulls = [pull_request(1), pull_request(2)]
        await look(watcher, Hint(1, ref="refs/heads/unwatched"))
        assert (scripted.asked, scripted.seen()) == ([], [])
        await look(watcher, Hint(2, ref=MAIN, commit="b"))
        assert (scripted.asked, scripted.seen()) == (["heads", "of_ref b"], [("web", RefChange(MAIN, "a", "b"))])
        scripted.asked.clear()
        await look(watcher, Hint(3, pull_request=2), Hint(4, pull_request=9))
        assert scripted.asked == ["heads", "pull_request 2", "pull_request 9", "of_pull_request 2"]
        assert scripted.seen() == [("web", ("opened", 2, "b"))]

    play(tmp_path, body)


def test_what_others_say_of_a_commit_hurries_what_waits_for_it_and_asks_nothing(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        outbox = scripted.store.outbox
        for commit in ("a", "b"):
            await outbox.add(CHANNEL, commit, {}, topic=topic_of("web", commit), service="web")
            message = await outbox.find(CHANNEL, commit)
            assert message is not None
            await outbox.postpone(message, None, 300.0)
        before = utc_now()
        assert await watcher._attend([Hint(1, commit="a")], is_due=False) is None
        hurried, waiting = await outbox.find(CHANNEL, "a"), await outbox.find(CHANNEL, "b")
        assert hurried is not None and waiting is not None  # noqa: PT018
        assert (hurried.attempts, waiting.attempts) == (0, 1)
        assert hurried.next_try_at < before + timedelta(seconds=100) < waiting.next_try_at
        assert (scripted.asked, scripted.attended) == ([], [1])

    play(tmp_path, body)


def test_another_repository_under_the_old_name_is_not_run(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        scripted.identity, scripted.refs[MAIN] = 8, "evil"
        scripted.pulls = [pull_request(1)]
        problem = await look(watcher)
        assert problem is not None
        assert "another repository than before (number 8, was 7)" in problem.message
        assert (scripted.seen(), await scripted.problem()) == ([], problem.reason)
        scripted.identity = 7
        assert await look(watcher) is None
        assert len(scripted.seen()) == 2
        assert await scripted.problem() is None

    play(tmp_path, body)


def test_a_delivery_of_the_right_repository_does_not_vouch_for_what_another_has_under_its_old_name(
    tmp_path: Path,
) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        scripted.identity, scripted.refs[MAIN] = 8, "evil"
        problem = await look(watcher, Hint(1, ref=MAIN, commit="b"))
        assert problem is not None
        assert "another repository than before" in problem.message
        assert (scripted.seen(), await scripted.problem()) == ([], problem.reason)

    play(tmp_path, body)


def test_what_only_somebody_can_mend_is_told_once_and_what_passes_is_not(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        async def paused() -> list[str | None]:
            return [event.reason for event in await scripted.store.events.page(kind="service") if event.name == "pause"]

        await look(watcher)
        scripted.fails["heads"] = RemoteUnavailableError("it stalls", RemoteProblem.STALLED)
        await look(watcher)
        assert (await scripted.problem(), await paused()) == ("it stalls", [])
        refused = RemoteUnavailableError("it refuses access", RemoteProblem.REFUSED, hint="seamless login")
        for _ in range(2):
            scripted.fails["heads"] = refused
            await look(watcher)
            scripted.fails["heads"] = RemoteUnavailableError("no such repository", RemoteProblem.NOT_FOUND)
            await look(watcher)
        assert await paused() == ["it refuses access (seamless login)"]
        scripted.fails.clear()
        await look(watcher)
        assert await scripted.problem() is None
        scripted.fails["heads"] = refused
        await look(watcher)
        assert len(await paused()) == 2

    play(tmp_path, body)


def test_without_the_api_what_git_says_is_acted_upon_and_the_rest_later(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        away = GitHubError("github.test does not answer", RemoteProblem.UNREACHABLE)
        scripted.fails["open_pull_requests"] = away
        scripted.refs[MAIN] = "b"
        scripted.pulls = [pull_request(1)]
        assert await look(watcher) is away
        assert scripted.seen() == [("web", RefChange(MAIN, "a", "b"))]
        assert await scripted.problem() == away.message
        scripted.fails.clear()
        assert await look(watcher) is None
        assert scripted.seen() == [("web", ("opened", 1, "b"))]

    play(tmp_path, body)


def test_a_change_that_cannot_be_decided_holds_up_no_other_and_is_tried_again(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        scripted.fails["of_ref b"] = RemoteUnavailableError("it stalls", RemoteProblem.STALLED)
        scripted.refs |= {MAIN: "b", "refs/tags/v1": "t"}
        assert await look(watcher) is scripted.fails["of_ref b"]
        assert scripted.seen() == [("api", RefChange("refs/tags/v1", None, "t"))]
        scripted.fails.clear()
        assert await look(watcher) is None
        assert scripted.seen() == [("api", RefChange(MAIN, "a", "b")), ("web", RefChange(MAIN, "a", "b"))]

    play(tmp_path, body, api=service(refs=["refs/tags/*"]), web=service())


def test_a_pull_request_that_cannot_be_decided_is_asked_for_again(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        await look(watcher)
        scripted.fails["of_pull_request 1"] = RemoteUnavailableError("it stalls", RemoteProblem.STALLED)
        scripted.pulls = [pull_request(1)]
        assert await look(watcher) is scripted.fails["of_pull_request 1"]
        scripted.fails.clear()
        assert await look(watcher) is None
        assert scripted.seen() == [("web", ("opened", 1, "a"))]

    play(tmp_path, body)


def test_a_branch_that_is_missing_is_told_and_its_first_push_starts_a_run(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        del scripted.refs[MAIN]
        assert await look(watcher) is not None
        assert "has no branch main" in (await scripted.problem() or "")
        scripted.refs[MAIN] = "a"
        assert await look(watcher) is None
        assert scripted.seen() == [("web", RefChange(MAIN, None, "a"))]

    play(tmp_path, body)


def test_hints_that_come_together_are_one_look_and_each_is_attended_to(tmp_path: Path) -> None:
    async def body(scripted: Scripted, watcher: Watcher) -> None:
        task = asyncio.create_task(watcher.run())
        try:
            await _until(lambda: len(scripted.told) == 1)  # the look at everything is over
            scripted.asked.clear()
            scripted.refs[MAIN] = "b"
            for number in range(100):
                watcher.tell(Hint(number, ref=MAIN, commit="b"))
            await _until(lambda: len(scripted.attended) == 100)
            assert scripted.asked == ["heads", "of_ref b"]
            assert sorted(scripted.attended) == list(range(100))
            assert scripted.told == [False]
        finally:
            task.cancel()
            await asyncio.wait({task})

    play(tmp_path, body)


def test_a_hint_that_could_not_be_looked_at_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GAP_S", 0.01)
    monkeypatch.setattr(module, "next_delay_s", lambda interval_s, failures, chance: 0.01)

    async def body(scripted: Scripted, watcher: Watcher) -> None:
        task = asyncio.create_task(watcher.run())
        try:
            await _until(lambda: len(scripted.told) == 1)
            scripted.fails["heads"] = RemoteUnavailableError("it stalls", RemoteProblem.STALLED)
            scripted.refs[MAIN] = "b"
            watcher.tell(Hint(5, ref=MAIN))
            await _until(lambda: len(scripted.told) > 3)
            assert scripted.attended == []
            scripted.fails.clear()
            await _until(lambda: scripted.attended == [5])
            assert scripted.seen() == [("web", RefChange(MAIN, "a", "b"))]
        finally:
            task.cancel()
            await asyncio.wait({task})

    play(tmp_path, body)


@pytest.mark.parametrize(("problem", "backs_off"), [(RemoteProblem.LIMITED, False), (RemoteProblem.UNREACHABLE, True)])
def test_a_rate_limit_of_the_api_does_not_slow_down_what_git_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: RemoteProblem, backs_off: bool
) -> None:
    monkeypatch.setattr(module, "_GAP_S", 0.01)
    seen: list[int] = []

    def at_once(interval_s: float, failures: int, chance: float) -> float:
        seen.append(failures)
        return 0.01

    monkeypatch.setattr(module, "next_delay_s", at_once)

    async def body(scripted: Scripted, watcher: Watcher) -> None:
        scripted.fails["identify"] = GitHubError("not now", problem)
        scripted.interval_s = 0.01
        task = asyncio.create_task(watcher.run())
        try:
            await _until(lambda: len(seen) == 3)
            assert seen == ([1, 2, 3] if backs_off else [0, 0, 0])
            scripted.refs[MAIN] = "b"
            await _until(lambda: scripted.arrived == [("web", RefChange(MAIN, "a", "b"))])
        finally:
            task.cancel()
            await asyncio.wait({task})

    play(tmp_path, body)


def test_webhooks_that_arrive_make_looks_rarer_until_one_was_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GAP_S", 0.01)

    async def body(scripted: Scripted, watcher: Watcher) -> None:
        scripted.interval_s = 0.05
        task = asyncio.create_task(watcher.run())
        try:
            await _until(lambda: len(scripted.told) == 2)
            watcher.tell(Hint(1, ref=MAIN))
            await _until(lambda: scripted.told[-1])
            scripted.refs[MAIN] = "b"  # and nobody tells
            await _until(lambda: not scripted.told[-1])
            assert scripted.told[:2] == [False, False]
        finally:
            task.cancel()
            await asyncio.wait({task})

    play(tmp_path, body)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
