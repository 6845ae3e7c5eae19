"""`seamless notify test`, against a scripted agent."""

from __future__ import annotations

import json

from .conftest import Seamless
from .fake_agent import FakeAgent, error

FOUND = [
    {"subject": "notify.releases", "level": "ok", "what": "sns took a test message", "mend": None},
    {"subject": "notify.pager", "level": "error", "what": "AWS has no topic x", "mend": "aws sns create-topic"},
]


def test_what_came_of_each_place_is_shown_and_decides_the_exit_code(agent: FakeAgent, seamless: Seamless) -> None:
    agent.answers["POST", "notify/test"] = (200, FOUND)
    done = seamless("notify", "test")
    assert done.stdout == (
        "  ✔ notify.releases  sns took a test message\n"
        "  ✘ notify.pager     AWS has no topic x\n"
        "      aws sns create-topic\n"
    )
    assert done.returncode == 1
    agent.answers["POST", "notify/test"] = (200, FOUND[:1])
    done = seamless("notify", "test", "releases", "--json")
    assert (json.loads(done.stdout), done.returncode) == (FOUND[:1], 0)
    assert json.loads(agent.requests[-1][3]) == {"name": "releases"}


def test_a_name_that_is_not_there_is_told(agent: FakeAgent, seamless: Seamless) -> None:
    agent.answers["POST", "notify/test"] = (404, error("not_found", "there is no notify.x", "configured: releases", 2))
    done = seamless("notify", "test", "x")
    assert (done.stderr, done.returncode) == ("seamless: there is no notify.x. Configured: releases\n", 2)
