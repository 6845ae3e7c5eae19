"""Keeps an eye on one repository for all services that are made from it.

A look compares what the remote has now with what each service was decided about, so it finds the same news whether a
timer or a webhook caused it, and whatever was missed, doubled or told in the wrong order meanwhile. Refs are asked of
git, which costs no quota. The API is asked when git shows a change, its last answer is old, or a pull request's run may
have become pointless; what finds nothing new costs no quota there either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from seamless.agent import triggers
from seamless.agent.arrivals import Arrivals, Place
from seamless.agent.identities import confirm_identity
from seamless.agent.reporting import CHANNEL, topic_of
from seamless.agent.resources import Resources
from seamless.agent.store import KnownPullRequest
from seamless.agent.workspaces import repository_of
from seamless.config import Git, Parameters
from seamless.errors import ConfigError, HostError, RefusedError, SeamlessError, UnavailableError
from seamless.forges import RemoteProblem, RemoteUnavailableError, Repository
from seamless.forges.github import GitHub, GitHubError, PullRequest
from seamless.forges.github.refs import PULL_REQUEST_HEADS, pull_request_number
from seamless.model import Actor

_POLLER: Final = Actor("poller")
_WEBHOOK: Final = Actor("webhook")
_BACK_OFF_MAX_S: Final = 900.0
_GAP_S: Final = 1.0  # from the beginning of a look to that of the next, however many hints come
_API_ANSWER_OLD_S: Final = 300.0  # closing and reopening a pull request changes no ref
_log = logging.getLogger(__name__)


def next_delay_s(interval_s: float, failures: int, chance: float) -> float:
    """Until the next look: the interval, doubled for each failure in a row up to 15 min, ±10 %."""
    delay_s = min(interval_s * 2.0 ** min(failures, 20), max(_BACK_OFF_MAX_S, interval_s))
    return delay_s * (0.9 + 0.2 * chance)


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook says has changed. `delivery` is its number in the store."""

    delivery: int
    ref: str | None = None  # full name
    pull_request: int | None = None
    commit: str | None = None  # what `ref` names now; without one, what was reviewed, or checked by somebody else


@dataclass(frozen=True, slots=True)
class Watched:
    """A repository and how to get at it. Services that agree in this share a watcher."""

    url: str
    git: Git


class Watcher:
    """`run` it as a task; `tell` it what webhooks say. `attended` is called with the deliveries that a look covered.

    `interval_s` says how long to wait between looks that nobody asked for (None: for ever), given whether webhooks of
    this repository arrive.
    """

    def __init__(
        self,
        watched: Watched,
        services: Mapping[str, Parameters],
        resources: Resources,
        arrivals: Arrivals,
        *,
        interval_s: Callable[[bool], float | None],
        attended: Callable[[Sequence[int]], Awaitable[None]],
    ) -> None:
        self.watched = watched
        self.services = services
        self._resources = resources
        self._heads = resources.store.heads
        self._arrivals = arrivals
        self._interval_s = interval_s
        self._attended = attended
        self._hints: list[Hint] = []
        self._woken = asyncio.Event()
        self._is_told = False  # webhooks of this repository arrive, and none was missed since
        self._github: GitHub | None = resources.github_of(watched.url, watched.git)
        self._paused: set[str] = set()  # services of which somebody was told that only they can mend it
        self._listed: Mapping[str, str] | None = None  # what git showed when all was well
        self._pulls: Mapping[str, str] | None = None  # as git showed them when the API was asked last,
        self._pulls_at = 0.0  # when that was, by time.monotonic,
        self._etag: str | None = None  # and of what it answered

    def tell(self, hint: Hint) -> None:
        """Something has changed there: it is looked at soon. Several that come together are one look."""
        self._is_told = True
        self._hints.append(hint)
        self._woken.set()

    async def run(self) -> None:
        """For ever. Begins with a look at everything, which catches up with what was missed."""
        failures = 0
        due_at = time.monotonic()
        while True:
            self._woken.clear()
            hints, self._hints = self._hints, []
            is_due = time.monotonic() >= due_at
            begun_at = time.monotonic()
            problem = await self._attend(hints, is_due=is_due)
            if problem is None:
                failures = 0
            else:
                self._hints = hints + self._hints
                failures += not _is_no_reason_to_back_off(problem)
            if is_due or problem is not None:
                interval_s = self._interval_s(self._is_told)
                delay_s = next_delay_s(interval_s or _API_ANSWER_OLD_S, failures, random.random())
                due_at = float("inf") if interval_s is None and problem is None else time.monotonic() + delay_s
            await self._rest(due_at, not_before=begun_at + _GAP_S)

    async def _attend(self, hints: Sequence[Hint], *, is_due: bool) -> Exception | None:
        """Looks, at everything when that is due; returns why it has to be tried again."""
        try:
            await self._hurry({hint.commit for hint in hints if hint.commit is not None and hint.ref is None})
            problem = await self._look(None if is_due else hints) if is_due or hints else None
            if problem is None:
                await self._attended([hint.delivery for hint in hints])
            return problem
        except HostError as error:
            _log.warning("%s: %s", self.watched.url, error.message)
            return error
        except Exception as error:
            _log.exception("looking at %s failed", self.watched.url)
            return error

    async def _hurry(self, commits: Iterable[str]) -> None:
        """Has merges that wait for others' word on these commits tried at once."""
        for commit in commits:
            for service in self.services:
                await self._resources.store.outbox.hurry(CHANNEL, topic_of(service, commit))

    async def _rest(self, due_at: float, *, not_before: float) -> None:
        """Until a look is due, or somebody tells of a change; a storm of these is one look a second."""
        left_s = None if due_at == float("inf") else max(0.0, due_at - time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), left_s)
        await asyncio.sleep(max(0.0, not_before - time.monotonic()))

    # -- one look

    async def _look(self, hints: Sequence[Hint] | None) -> SeamlessError | None:
        """At everything, or at what the hints name. Does all that can be done, tells the services what cannot, and
        returns the first of that."""
        try:
            repository = await asyncio.to_thread(repository_of, self.watched.url, self.watched.git)
            actor = _POLLER if hints is None else _WEBHOOK
            places = [Place(name, parameters, repository, actor) for name, parameters in self.services.items()]
            # What is known is read first: what somebody else decides about meanwhile is then not decided twice.
            known = {place.service: await self._heads.known(place.service) for place in places}
            pull_requests = {place.service: await self._heads.pull_requests(place.service) for place in places}
            look = await self._ask(places, hints)
        except SeamlessError as error:
            await self._tell_problem(error, self.services)
            return error
        first = look.problem
        for place in places:
            problems = await self._decide(place, look, known[place.service], pull_requests[place.service])
            problem = problems[0] if problems else look.problem
            if look.is_whole or problem is not None:
                await self._tell_problem(problem, [place.service])
            first = first or problem
        if first is not None:
            self._listed = self._pulls = self._etag = None  # ask for all of it again
        elif look.is_whole:
            self._listed = look.listed
        elif self._listed is not None:
            self._listed = {**self._listed, **look.listed}
        return first

    async def _ask(self, places: Sequence[Place], hints: Sequence[Hint] | None) -> _Look:
        """What there is now. Without an answer of the API, what git says can be acted upon."""
        refs = None if hints is None else {hint.ref for hint in hints if hint.ref is not None}
        numbers = None if hints is None else frozenset(hint.pull_request for hint in hints if hint.pull_request)
        patterns = self._patterns(places, refs, pull_requests=bool(numbers))
        listed = await self._resources.forge.heads(places[0].repository, patterns) if patterns else {}
        try:
            if self._github is not None and not self._is_vouched_for(listed, hints or ()):
                await confirm_identity(self._resources.store, self._github, places[0].repository)
            pulls = await self._ask_for_pull_requests(places, listed, numbers)
        except UnavailableError as error:
            return _Look(listed, None, numbers, error)
        return _Look(listed, pulls, numbers, None)

    def _is_vouched_for(self, listed: Mapping[str, str], hints: Sequence[Hint]) -> bool:
        """Whether all of it was there before, or is what GitHub says in a signed delivery of the very repository."""
        seen = self._listed or {}
        said = {(hint.ref, hint.commit) for hint in hints}
        return all(seen.get(ref) == commit or (ref, commit) in said for ref, commit in listed.items())

    def _patterns(self, places: Sequence[Place], refs: set[str] | None, *, pull_requests: bool) -> list[str]:
        """What is asked of the remote: all that is watched, or of it the refs that were named."""
        wanted = dict.fromkeys(pattern for place in places for pattern in triggers.patterns_of(place.parameters))
        if refs is None:
            return [*wanted, *([PULL_REQUEST_HEADS] if self._has_pull_requests(places) else [])]
        named = [ref for ref in sorted(refs) if triggers.is_watched(ref, list(wanted))]
        targets = [triggers.branch_of(place.parameters) for place in places] if pull_requests else []
        return list(dict.fromkeys([*named, *targets]))

    def _has_pull_requests(self, places: Sequence[Place]) -> bool:
        watching = any(triggers.watches_pull_requests(place.parameters) for place in places)
        return watching and self._github is not None

    async def _ask_for_pull_requests(
        self, places: Sequence[Place], listed: Mapping[str, str], numbers: frozenset[int] | None
    ) -> Sequence[PullRequest] | None:
        """Those that were named, or all open ones; None when nothing hints at a change."""
        if self._github is None or not self._has_pull_requests(places):
            return None
        repository = places[0].repository
        if numbers is not None:
            return await self._ask_for_each(self._github, repository, numbers)
        pulls = {ref: commit for ref, commit in listed.items() if pull_request_number(ref) is not None}
        is_fresh = pulls == self._pulls and time.monotonic() - self._pulls_at < _API_ANSWER_OLD_S
        if is_fresh and not await self._resources.store.runs.any_of_pull_requests(list(self.services)):
            return None
        answer = await self._github.open_pull_requests(repository, etag=self._etag)
        self._pulls, self._pulls_at = pulls, time.monotonic()
        if answer is None:
            return None
        self._etag = answer.etag
        return answer.open

    async def _ask_for_each(
        self, github: GitHub, repository: Repository, numbers: Iterable[int]
    ) -> Sequence[PullRequest]:
        """Those of them that there are."""
        found = []
        for number in sorted(numbers):
            try:
                found.append(await github.pull_request(repository, number))
            except GitHubError as error:
                if error.problem is not RemoteProblem.NOT_FOUND:
                    raise
        return found

    async def _decide(
        self,
        place: Place,
        look: _Look,
        known: Mapping[str, str],
        pull_requests: Mapping[int, KnownPullRequest],
    ) -> list[SeamlessError]:
        """What the look means to one service. A change that cannot be decided now does not hold up the others."""
        patterns = triggers.patterns_of(place.parameters)
        watched = await self._heads.watched(place.service)
        problems: list[SeamlessError] = []
        news = triggers.ref_news(look.listed, known, patterns, watched)
        for ref, commit in news.noted.items():
            await self._heads.advance(place.service, ref, None, commit)
        for change in news.changed:
            # A new configuration may end this task, but not between storing a run and driving it.
            await _collect(problems, asyncio.shield(self._arrivals.of_ref(place, change)))
        base = look.listed.get(triggers.branch_of(place.parameters))
        if look.is_whole and base is None:
            problems.append(SeamlessError(f"{place.repository} has no branch {place.parameters.branch}"))
        watching = triggers.watches_pull_requests(place.parameters)
        if look.pulls is not None and watching and base is not None:
            is_watched = PULL_REQUEST_HEADS in watched
            for one in triggers.pull_request_news(
                look.pulls, pull_requests, place.parameters, watched=is_watched, asked=look.numbers
            ):
                before = pull_requests.get(one.number)
                await _collect(problems, asyncio.shield(self._arrivals.of_pull_request(place, one, before, base)))
        if look.is_whole:
            has_seen = look.pulls is not None or PULL_REQUEST_HEADS in watched
            more = [PULL_REQUEST_HEADS] if watching and has_seen else []
            await self._heads.watch(place.service, [*patterns, *more])
            self._is_told &= not news.changed  # a webhook should have told
        return problems

    async def _tell_problem(self, problem: SeamlessError | None, services: Iterable[str]) -> None:
        for service in services:
            message = None if problem is None else problem.reason
            async with self._resources.store.transaction():
                is_news = await self._heads.set_problem(service, message)
                if is_news and _needs_somebody(problem) and service not in self._paused:
                    await self._resources.store.events.add(
                        "service", "pause", service=service, reason=message, actor="agent"
                    )
            if _needs_somebody(problem):
                self._paused.add(service)
            elif message is None:
                self._paused.discard(service)
            if is_news and message is not None:
                _log.warning("%s: %s", service, message)


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found. `pulls` is None when nobody asked for pull requests or the API did not answer (`problem`)."""

    listed: Mapping[str, str]
    pulls: Sequence[PullRequest] | None
    numbers: frozenset[int] | None  # the pull requests that were asked for; None: all open ones
    problem: SeamlessError | None

    @property
    def is_whole(self) -> bool:
        """Whether everything was looked at."""
        return self.numbers is None


def _needs_somebody(problem: SeamlessError | None) -> bool:
    """Whether it does not pass by itself: the token is refused, the repository is gone or another one."""
    if isinstance(problem, RemoteUnavailableError):
        return problem.problem in (RemoteProblem.REFUSED, RemoteProblem.NOT_FOUND)
    return isinstance(problem, (RefusedError, ConfigError))


def _is_no_reason_to_back_off(problem: Exception) -> bool:
    """The repository is none the worse for our host's trouble; and while the API limits us, nothing is asked of it,
    but git still tells of pushes."""
    is_limited = isinstance(problem, GitHubError) and problem.problem is RemoteProblem.LIMITED
    return is_limited or isinstance(problem, HostError)


async def _collect(problems: list[SeamlessError], deciding: Awaitable[object]) -> None:
    try:
        await deciding
    except SeamlessError as error:
        problems.append(error)
