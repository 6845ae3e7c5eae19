"""Which changes start which runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.agent.store import KnownPullRequest
from seamless.agent.triggers import (
    PullRequestEvent,
    RefChange,
    patterns_of,
    pull_request_news,
    ref_news,
    skips_ci,
    touches,
    trigger_of,
    why_nothing,
)
from seamless.config import Parameters
from seamless.forges.github import PullRequest
from seamless.model import Trigger

MAIN = "refs/heads/main"


def service(**parameters: Any) -> Parameters:
    return Parameters.model_validate({"repo": "/somewhere", **parameters})


def pull_request(number: int, head: str = "a", **more: Any) -> PullRequest:
    known = {
        "number": number,
        "title": "a change",
        "author": "ada",
        "author_id": 1,
        "head": head,
        "head_ref": "change",
        "head_repository": 1,
        "base_ref": "main",
        "base_repository": 1,
        "is_open": True,
        "is_draft": False,
        "is_merged": False,
        "updated_at": datetime(2026, 11, 23, tzinfo=UTC),
    }
    return PullRequest(**{**known, **more})


# -- refs


@pytest.mark.parametrize(
    ("listed", "known", "watched", "changed"),
    [
        ({MAIN: "a"}, {}, [], []),  # a service that is new deploys nothing by itself
        ({MAIN: "a"}, {}, [MAIN], [(MAIN, None, "a")]),  # the first push to a repository that was empty
        ({MAIN: "a"}, {MAIN: "a"}, [MAIN], []),
        ({MAIN: "b"}, {MAIN: "a"}, [MAIN], [(MAIN, "a", "b")]),
        ({MAIN: "b"}, {MAIN: "a"}, [], [(MAIN, "a", "b")]),
        ({}, {MAIN: "a"}, [MAIN], []),  # deleted
        ({"refs/heads/other": "b"}, {}, [MAIN], []),
        ({"refs/x/refs/heads/main": "b"}, {}, [MAIN], []),
        ({"refs/tags/v1": "b"}, {}, [MAIN], []),  # the pattern is new, the tag may be old
        ({"refs/tags/v1": "b"}, {}, [MAIN, "refs/tags/v*"], [("refs/tags/v1", None, "b")]),
        ({"refs/tags/w1": "b"}, {}, [MAIN, "refs/tags/v*"], []),
    ],
)
def test_news_of_refs(
    listed: Mapping[str, str], known: Mapping[str, str], watched: Sequence[str], changed: list[tuple[str, ...]]
) -> None:
    patterns = patterns_of(service(refs=["refs/tags/v*"]))
    news = ref_news(listed, known, patterns, set(watched))
    assert news.changed == tuple(RefChange(*change) for change in changed)


REFS = st.sampled_from([MAIN, "refs/heads/release/1", "refs/heads/release/2", "refs/heads/x", "refs/tags/v1"])
LISTINGS = st.dictionaries(REFS, st.sampled_from("abc"))


@given(LISTINGS, LISTINGS, st.sets(st.sampled_from([MAIN, "refs/heads/release/*"])))
def test_after_news_are_taken_note_of_there_are_none(
    listed: dict[str, str], known: dict[str, str], watched: set[str]
) -> None:
    patterns = patterns_of(service(refs=["refs/heads/release/*"]))
    news = ref_news(listed, known, patterns, watched)
    now = {**known, **news.noted, **{change.ref: change.after for change in news.changed}}
    again = ref_news(listed, now, patterns, set(patterns))
    assert (again.changed, again.noted) == ((), {})
    assert all(known.get(change.ref) == change.before != change.after for change in news.changed)
    assert not known.keys() & news.noted.keys()
    assert {*news.noted, *(change.ref for change in news.changed)} <= listed.keys()


# -- pull requests


def events(
    listed: Sequence[PullRequest],
    known: Sequence[KnownPullRequest] = (),
    *,
    watched: bool = True,
    asked: set[int] | None = None,
    **parameters: Any,
) -> list[tuple[str, int]]:
    known_by_number = {one.number: one for one in known}
    news = pull_request_news(listed, known_by_number, service(**parameters), watched=watched, asked=asked)
    return [(change.event.value, change.number) for change in news]


SEEN = KnownPullRequest(7, "a", waits=False)
DRAFT = KnownPullRequest(7, "a", waits=True)


def test_news_of_pull_requests() -> None:
    assert events([pull_request(7)]) == [("opened", 7)]
    assert events([pull_request(7)], [SEEN]) == []
    assert events([pull_request(7, "b")], [SEEN]) == [("synchronized", 7)]
    assert events([], [SEEN]) == [("closed", 7)]
    assert events([pull_request(7, is_open=False)], [SEEN]) == [("closed", 7)]
    assert events([pull_request(7, base_ref="v1")], [SEEN]) == [("closed", 7)]
    assert events([pull_request(7, base_ref="v1")]) == []
    assert events([pull_request(7, base_ref="v1")], branch="v1") == [("opened", 7)]
    assert events([pull_request(7)], watched=False) == [("noted", 7)]


def test_only_those_that_were_asked_for_can_have_been_closed() -> None:
    other = KnownPullRequest(8, "a", waits=False)
    assert events([pull_request(7, "b")], [SEEN, other], asked={7}) == [("synchronized", 7)]
    assert events([], [SEEN, other], asked={7}) == [("closed", 7)]


def test_a_draft_waits_until_it_is_ready_unless_drafts_run() -> None:
    draft = pull_request(7, is_draft=True)
    assert events([draft]) == [("noted", 7)]
    assert events([draft], [DRAFT]) == []
    assert events([pull_request(7, "b", is_draft=True)], [DRAFT]) == [("noted", 7)]
    assert events([pull_request(7)], [DRAFT]) == [("opened", 7)]
    assert events([pull_request(7, "b", is_draft=True)], [SEEN]) == [("noted", 7)]
    assert events([draft], drafts=True) == [("opened", 7)]
    assert events([pull_request(7)], [SEEN], drafts=True) == []  # it ran as a draft


PULL_REQUESTS = st.lists(
    st.builds(
        pull_request,
        st.integers(1, 4),
        st.sampled_from("ab"),
        is_open=st.booleans(),
        is_draft=st.booleans(),
        base_ref=st.sampled_from(["main", "v1"]),
    ),
    unique_by=lambda one: one.number,
)
KNOWN = st.dictionaries(
    st.integers(1, 4), st.builds(KnownPullRequest, st.just(0), st.sampled_from("ab"), st.booleans())
)


@given(PULL_REQUESTS, KNOWN, st.booleans(), st.booleans())
def test_after_pull_requests_are_taken_note_of_there_are_no_news(
    listed: list[PullRequest], known: dict[int, KnownPullRequest], watched: bool, drafts: bool
) -> None:
    known = {number: KnownPullRequest(number, one.head, one.waits) for number, one in known.items()}
    parameters = service(drafts=drafts)
    news = pull_request_news(listed, known, parameters, watched=watched)
    now = dict(known)
    for change in news:
        if change.now is None:
            del now[change.number]
        else:
            waits = change.now.is_draft and not drafts
            now[change.number] = KnownPullRequest(change.number, change.now.head, waits)
            assert change.event is PullRequestEvent.NOTED or not waits
    assert pull_request_news(listed, now, parameters, watched=True) == []
    if not watched:
        assert not any(change.event is PullRequestEvent.OPENED and change.number not in known for change in news)


# -- which of them are a service's


@pytest.mark.parametrize(
    ("parameters", "touched", "not_touched"),
    [
        ({}, ["anything", "a/b"], []),
        ({"path": "pay"}, ["pay/x", "pay/x/y"], ["payment/x", "x/pay/x", "pay", "x"]),
        ({"path": "pay", "watch_paths": ["libs"]}, ["pay/x", "libs/x", "libs"], ["x/libs/x", "libs2/x"]),
        ({"path": "pay", "watch_paths": ["*.lock"]}, ["a.lock"], ["x/a.lock"]),
        ({"path": "pay", "watch_paths": ["**/*.proto"]}, ["a.proto", "x/y/a.proto"], ["a.protox"]),
        ({"path": "pay", "watch_paths": ["!pay/docs", "pay/docs/api"]}, ["pay/x", "pay/docs/api"], ["pay/docs/x"]),
        ({"watch_paths": ["src"]}, ["src/x"], ["docs/x", "x"]),
        ({"watch_paths": ["!docs"]}, ["src/x", "x"], ["docs/x", "docs/a/b"]),
        ({"path": "a[b]*!"}, ["a[b]*!/x"], ["ab/x", "a[b]c!/x"]),
        ({"path": "!a b"}, ["!a b/x"], ["a b/x", "x"]),
        ({"path": "#a"}, ["#a/x"], ["x"]),
    ],
)
def test_a_service_watches_its_folder_and_what_it_names(
    parameters: dict[str, Any], touched: list[str], not_touched: list[str]
) -> None:
    watching = service(**parameters)
    assert [path for path in touched if not touches(watching, ["unrelated.txt", path])] == []
    assert [path for path in not_touched if touches(watching, [path])] == []


PATHS = st.tuples(
    st.sampled_from(["", "services/pay/", "services/", "x/services/pay/"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), min_size=1),
).map("".join)


@given(st.lists(PATHS, max_size=5))
def test_whatever_files_are_called_a_folder_holds_only_what_lies_in_it(names: list[str]) -> None:
    watching = service(path="services/pay")
    assert touches(watching, names) == any(name.startswith("services/pay/") and name[13:] for name in names)


@pytest.mark.parametrize(
    ("message", "skipped"),
    [("x [skip ci]", True), ("x\n\n[ci skip]", True), ("[Skip CI] x", True), ("skip ci", False), ("[skip  ci]", False)],
)
def test_a_message_can_ask_for_no_run(message: str, skipped: bool) -> None:
    assert skips_ci(message) is skipped


def test_what_a_change_counts_as_and_whether_that_starts_anything() -> None:
    one = service(triggers=["main"])
    assert trigger_of(RefChange(MAIN, None, "a"), one) is Trigger.MAIN
    assert trigger_of(RefChange("refs/tags/v1", None, "a"), one) is Trigger.MANUAL
    assert trigger_of(PullRequestEvent.OPENED, one) is Trigger.PR_OPEN
    assert trigger_of(PullRequestEvent.SYNCHRONIZED, one) is Trigger.PR_SYNC
    told = {trigger: why_nothing(one, trigger, commit="a" * 40, message="") for trigger in list(Trigger)[:4]}
    assert [trigger for trigger, why in told.items() if why is None] == [Trigger.MAIN, Trigger.MANUAL]
    assert "[skip ci]" in (why_nothing(one, Trigger.MAIN, commit="a" * 40, message="x [ci skip]") or "")
