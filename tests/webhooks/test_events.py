"""What payloads say: GitHub's own, and any others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless.forges.github.events import MalformedPayloadError, Told, read_event
from webhooks.examples import EXAMPLES, Example

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_githubs_own_payloads_are_read(example: Example) -> None:
    told = read_event(example.event, example.payload)
    assert (told.event, told.action) == (example.event, example.action)
    expected: dict[str, Any] = {"ref": None, "pull_request": None, "commit": None, "hook": None}
    if example.event == "push":
        expected |= {"ref": example.payload["ref"], "commit": example.payload["after"]}
    elif example.event == "pull_request":
        expected["pull_request"] = example.payload["number"]
    elif example.event == "pull_request_review":
        expected["commit"] = example.payload["pull_request"]["head"]["sha"]
    elif (example.event, example.action) == ("check_suite", "completed"):
        expected["commit"] = example.payload["check_suite"]["head_sha"]
    elif example.event == "status":
        expected["commit"] = example.payload["sha"]
    elif example.event == "ping":
        expected["hook"] = example.payload["hook_id"]
    assert {name: getattr(told, name) for name in expected} == expected
    repository = example.payload.get("repository")
    if any(expected.values()) and repository is not None:
        assert (told.repository, told.name) == (repository["id"], repository["full_name"])


REPOSITORY = {"id": 1, "full_name": "acme/shop"}
PUSH = {"ref": "refs/heads/main", "repository": REPOSITORY}


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("push", {}),
        ("push", {"ref": "refs/heads/main"}),
        ("push", {**PUSH, "ref": "main"}),
        ("push", {**PUSH, "ref": "refs/heads/a b"}),
        ("push", {**PUSH, "ref": "refs/heads/" + "x" * 2000}),
        ("push", {**PUSH, "ref": ["refs/heads/main"]}),
        ("push", {**PUSH, "repository": 1}),
        ("push", {**PUSH, "repository": {**REPOSITORY, "id": "1"}}),
        ("push", {**PUSH, "repository": {**REPOSITORY, "id": True}}),
        ("push", {**PUSH, "repository": {**REPOSITORY, "id": 2**63}}),
        ("push", {**PUSH, "repository": {**REPOSITORY, "full_name": "../x/y"}}),
        ("pull_request", {"repository": REPOSITORY}),
        ("pull_request", {"repository": REPOSITORY, "number": 0}),
        ("pull_request", {"repository": REPOSITORY, "number": -1}),
        ("ping", {}),
        ("pull_request_review", {"repository": REPOSITORY}),
        ("pull_request_review", {"repository": REPOSITORY, "pull_request": {"head": {"sha": "main"}}}),
        ("check_suite", {"action": "completed", "repository": REPOSITORY, "check_suite": []}),
        ("status", {"state": "success", "repository": REPOSITORY, "sha": "0" * 41}),
    ],
)
def test_an_event_that_counts_must_be_whole(event: str, payload: dict[str, Any]) -> None:
    with pytest.raises(MalformedPayloadError):
        read_event(event, payload)


def test_what_has_not_ended_asks_for_nothing() -> None:
    assert not read_event("status", {"state": "pending", "repository": REPOSITORY, "sha": "0" * 40}).asks
    assert not read_event("check_suite", {"action": "requested"}).asks


@given(st.sampled_from(["push", "pull_request", "ping", "star", "check_run"]), st.dictionaries(st.text(), JSON))
def test_whatever_it_holds_a_payload_is_read_or_malformed(event: str, payload: dict[str, Any]) -> None:
    payload = {"ref": "refs/heads/x", "number": 1, "hook_id": 1, "repository": REPOSITORY, **payload}
    try:
        told = read_event(event, payload)
    except MalformedPayloadError:
        assert event in ("push", "pull_request", "ping")
    else:
        assert isinstance(told, Told)
        assert (told.ref is not None, told.pull_request is not None) == (event == "push", event == "pull_request")
