"""What the shell completes."""

from __future__ import annotations

import pytest

from .conftest import Seamless
from .fake_agent import FakeAgent, run

pytestmark = pytest.mark.fake


def completed(seamless: Seamless, line: str, **more: str) -> list[str]:
    """As bash asks, with the cursor at the line's end."""
    words = line.split(" ")
    asked = {"_SEAMLESS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = seamless(**asked, **more)
    assert done.stderr == ""
    return done.stdout.split()


def test_services_and_runs_are_completed(seamless: Seamless, agent: FakeAgent) -> None:
    agent.answers["GET", "services"] = (200, [{"name": "payment"}, {"name": "gateway"}])
    agent.answers["GET", "runs"] = (200, [run("payment-42"), run("payment-41"), run("gateway-7")])
    assert completed(seamless, "seamless run pa") == ["payment"]
    assert completed(seamless, "seamless images ") == ["payment", "gateway"]
    assert completed(seamless, "seamless logs payment-4") == ["payment-42", "payment-41"]
    assert completed(seamless, "seamless show g") == ["gateway", "gateway-7"]
    assert ("GET", "runs", {"limit": "30", "service": "payment"}) in [request[:3] for request in agent.requests]


def test_stages_are_completed_without_an_agent(seamless: Seamless) -> None:
    assert completed(seamless, "seamless logs payment-42 deploy_") == ["deploy_staging", "deploy_production"]
    assert completed(seamless, "seamless shell payment un") == ["unit_test"]
    assert completed(seamless, "seamless rerun payment --from pre") == ["prepare"]


def test_nothing_is_completed_where_nobody_answers(seamless: Seamless) -> None:
    assert completed(seamless, "seamless run pa") == []
    assert completed(seamless, "seamless --socket /nowhere run pa") == []
    assert completed(seamless, "seamless run pa", SEAMLESS_HOST="no url") == []
    assert "cancel" in completed(seamless, "seamless ca")
