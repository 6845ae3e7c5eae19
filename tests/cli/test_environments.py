"""`seamless env`, against a scripted agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.terminal import at_a_terminal
from seamless.cli.environments import _service
from seamless.errors import UsageError

from .conftest import Seamless
from .fake_agent import FakeAgent, error

FACTS = {
    "vpc": "vpc-1",
    "subnets": ["subnet-1", "subnet-2"],
    "public_address": True,
    "architecture": "X86_64",
    "services": [
        {
            "name": "payment",
            "container": "payment",
            "port": 3000,
            "cpu": 512,
            "memory": 1024,
            "count": 2,
            "target_group": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/shop/6d0e",
        },
        {"name": "worker", "container": "worker", "cpu": 256, "memory": 512, "count": 1},
    ],
}
PLAN: dict[str, Any] = {
    "environment": "staging",
    "region": "eu-central-1",
    "cluster": "staging",
    "stack": "seamless-staging",
    "action": "create",
    "facts": FACTS,
    "changes": [
        {"action": "add", "type": "AWS::ECS::Cluster", "name": "Cluster"},
        {"action": "add", "type": "AWS::IAM::Role", "name": "A"},
        {"action": "add", "type": "AWS::IAM::Role", "name": "B"},
    ],
    "deployed_anew": [],
    "monthly_usd": 55.1,
    "template": '{"Resources":{}}',
    "fingerprint": "f" * 64,
}
STACK = {
    "id": "arn:aws:cloudformation:eu-central-1:123456789012:stack/seamless-staging/1",
    "name": "seamless-staging",
    "status": "CREATE_IN_PROGRESS",
    "reason": None,
    "changed_at": "2026-12-03T14:02:10.000Z",
}
OPERATION = {"stack": STACK, "since": "2026-12-03T14:02:10+00:00", "action": "create"}
SHOWN: dict[str, Any] = {
    "environment": "staging",
    "target": "docker",
    "region": "eu-central-1",
    "cluster": "staging",
    "configured": False,
    "stack": None,
    "facts": None,
    "services": [],
    "configured_services": {},
    "sizes": [{"cpu": 256, "memory": [512, 1024, 2048]}, {"cpu": 512, "memory": [1024, 2048]}],
}


def event(resource: str, status: str, kind: str = "AWS::ECS::Service", reason: str | None = None) -> dict[str, Any]:
    at = "2026-12-03T14:02:11.000Z"
    return {"event": {"at": at, "resource": resource, "type": kind, "status": status, "reason": reason}}


@pytest.fixture
def planned(agent: FakeAgent) -> FakeAgent:
    agent.answers["GET", "environments/staging"] = (200, SHOWN)
    agent.answers["POST", "environments/staging/plan"] = (200, PLAN)
    agent.answers["POST", "environments/staging/up"] = (202, OPERATION)
    agent.answers["POST", "environments/staging/down"] = (202, {**OPERATION, "action": "delete"})
    return agent


def progress(agent: FakeAgent, *steps: dict[str, Any]) -> None:
    agent.ndjson["environments/staging/progress"] = list(steps)


def asked(agent: FakeAgent, path: str) -> list[dict[str, Any]]:
    return [json.loads(body) for method, found, _, body in agent.requests if (method, found) == ("POST", path)]


def test_a_plan_says_what_would_be_made_and_what_it_costs(planned: FakeAgent, seamless: Seamless) -> None:
    done = seamless("env", "up", "staging", "--plan")
    assert done.returncode == 0
    assert done.stdout == (
        "staging in eu-central-1: a new stack seamless-staging\n"
        "  cluster   staging, X86_64\n"
        "  network   vpc-1, 2 subnets, tasks with public addresses\n"
        "  service  tasks  cpu        memory    port  reached from\n"
        "  payment  2      0.5 vCPU   1024 MiB  3000  outside, by shop\n"
        "  worker   1      0.25 vCPU  512 MiB   -     nowhere\n"
        "  creates   1 cluster, 2 roles\n"
        "  costs     about 55 USD a month for these tasks at the list price of us-east-1; other regions differ. Load "
        "balancers, logs and traffic come on top\n"
    )
    assert asked(planned, "environments/staging/up") == []


def test_without_a_terminal_and_without_yes_nothing_is_made(planned: FakeAgent, seamless: Seamless) -> None:
    done = seamless("env", "up", "staging")
    assert done.returncode == 2
    assert done.stderr == "seamless: there is no terminal to ask at, and nothing was changed. Give --yes\n"
    assert asked(planned, "environments/staging/up") == []


def test_what_was_confirmed_is_made_and_each_step_is_a_line(planned: FakeAgent, seamless: Seamless) -> None:
    progress(
        planned,
        event("PaymentService", "CREATE_IN_PROGRESS"),
        event("PaymentService", "CREATE_COMPLETE"),
        {"result": {"ok": True, "status": "CREATE_COMPLETE", "reasons": []}},
    )
    done = seamless("env", "up", "staging", "--service", "payment,cpu=512", "--count", "2", "--yes")
    assert done.returncode == 0, done.stderr
    assert asked(planned, "environments/staging/plan")[0]["services"] == {"payment": {"count": 2, "cpu": 512}}
    assert asked(planned, "environments/staging/up")[0]["fingerprint"] == PLAN["fingerprint"]
    assert done.stdout.partition("come on top\n")[2] == (
        "14:02:11 service PaymentService create in progress\n"
        "14:02:11 service PaymentService create complete\n"
        "✔ staging is up\n"
        "\n"
        "To deploy there, the configuration needs:\n"
        "\n"
        "[environments.staging]\n"
        'target = "ecs"\n'
        'region = "eu-central-1"\n'
        'cluster = "staging"\n'
        "\n"
    )


def test_a_failure_says_why_and_what_became_of_it(planned: FakeAgent, seamless: Seamless) -> None:
    reasons = ["PaymentService: ECS Deployment Circuit Breaker was triggered."]
    progress(planned, {"result": {"ok": False, "status": "DELETE_COMPLETE", "reasons": reasons}})
    done = seamless("env", "up", "staging", "--yes")
    assert done.returncode == 1
    assert done.stdout.endswith(
        "✘ staging failed: all that was made is removed again\n"
        "  PaymentService: ECS Deployment Circuit Breaker was triggered.\n"
    )


def test_progress_goes_on_after_the_connection_broke_and_tells_nothing_twice(
    planned: FakeAgent, seamless: Seamless
) -> None:
    progress(
        planned,
        event("A", "CREATE_IN_PROGRESS"),
        event("B", "CREATE_IN_PROGRESS"),
        event("A", "CREATE_COMPLETE"),
        {"result": {"ok": True, "status": "CREATE_COMPLETE", "reasons": []}},
    )
    planned.cut_after = 2
    done = seamless("env", "up", "staging", "--yes", "--json")
    assert done.returncode == 0
    steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [step["event"]["resource"] for step in steps if "event" in step] == ["A", "B", "A"]
    assert planned.streams == 2


def test_an_agent_that_cannot_follow_says_that_the_stack_goes_on(planned: FakeAgent, seamless: Seamless) -> None:
    body = error("unavailable", "AWS does not answer", "the stack goes on; seamless env show staging")["error"]
    progress(planned, {"error": body})
    done = seamless("env", "up", "staging", "--yes")
    assert done.returncode == 1
    assert done.stderr == "seamless: AWS does not answer. The stack goes on; seamless env show staging\n"


def test_nothing_to_change_is_said_and_not_asked(planned: FakeAgent, seamless: Seamless) -> None:
    planned.answers["POST", "environments/staging/plan"] = (200, {**PLAN, "action": "nothing", "changes": []})
    done = seamless("env", "up", "staging")
    assert done.returncode == 0
    assert done.stdout.startswith("staging in eu-central-1: nothing to change in the stack seamless-staging\n")
    assert asked(planned, "environments/staging/up") == []


def test_the_template_can_be_had(planned: FakeAgent, seamless: Seamless) -> None:
    done = seamless("env", "up", "staging", "--template")
    assert json.loads(done.stdout) == {"Resources": {}}


def test_what_cannot_be_is_asked_again_at_once(planned: FakeAgent, home: Path) -> None:
    planned.answers["GET", "environments/staging"] = (200, {**SHOWN, "configured_services": {"payment": "payment"}})
    planned.answers["GET", "services/payment"] = (200, {"parameters": {"port": 3000}})
    progress(planned, {"result": {"ok": True, "status": "CREATE_COMPLETE", "reasons": []}})
    with at_a_terminal("env", "up", "staging", cwd=home, SEAMLESS_SOCKET=str(planned.socket)) as terminal:
        terminal.answer("port that it listens on, 0 for none [3000]", "many")
        terminal.answer("0 to 65535", "70000")
        terminal.answer("0 to 65535", "")
        terminal.answer("CPU units (1024 are one vCPU) [256]", "300")
        terminal.answer("one of 256, 512", "512")
        terminal.answer("memory in MiB [1024]", "512")
        terminal.answer("one of 1024, 2048", "2048")
        terminal.answer("tasks [1]", "-1")
        terminal.answer("0 to 5000", "2")
        terminal.answer("target group, or nothing", "my-load-balancer")
        terminal.answer("targetgroup/…, or nothing", "")
        terminal.answer("Make staging?", "perhaps")
        terminal.answer("y or n", "y")
        terminal.read_until("staging is up")
        assert terminal.end() == 0
    wanted = {"payment": {"port": 3000, "cpu": 512, "memory": 2048, "count": 2}}
    assert asked(planned, "environments/staging/up")[0]["services"] == wanted


def test_taking_down_needs_the_name(planned: FakeAgent, seamless: Seamless) -> None:
    progress(planned, {"result": {"ok": True, "status": "DELETE_COMPLETE", "reasons": []}})
    done = seamless("env", "down", "staging")
    assert done.returncode == 2
    assert done.stderr.endswith("nothing was changed. Give --confirm NAME\n")
    assert asked(planned, "environments/staging/down") == []
    done = seamless("env", "down", "staging", "--confirm", "staging")
    assert (done.returncode, done.stdout) == (0, "✔ staging is gone\n")
    assert asked(planned, "environments/staging/down") == [{"name": "staging"}]


def test_what_is_there_is_shown(planned: FakeAgent, seamless: Seamless) -> None:
    service = {"name": "payment", "desired": 2, "running": 1, "pending": 1, "rollout": "IN_PROGRESS"}
    planned.answers["GET", "environments/staging"] = (
        200,
        {**SHOWN, "stack": STACK, "services": [{**service, "task_definition": "staging-payment:7"}]},
    )
    done = seamless("env", "show", "staging")
    head, stack, configured, *rows = done.stdout.splitlines()
    assert head == "staging  cluster staging in eu-central-1"
    assert stack.startswith("  ▶ seamless-staging CREATE_IN_PROGRESS for ")
    assert (
        configured
        == '  to deploy there: [environments.staging] target = "ecs", region = "eu-central-1", cluster = "staging"'
    )
    assert rows[1].split("  ")[1:] == ["payment", "1 of 2, 1 starting", "in progress", "staging-payment:7"]


def test_an_environment_that_there_is_not_is_refused_before_the_agent_is_asked(
    planned: FakeAgent, seamless: Seamless
) -> None:
    done = seamless("env", "up", "test")
    assert done.returncode == 2
    assert done.stderr == "seamless: there is no environment 'test'. Staging or production\n"
    assert planned.requests == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("payment,cpu=many", "--service payment: cpu must be a whole number, not 'many'"),
        ("payment,cpus=2", "--service payment: 'cpus=2' says nothing"),
        ("payment,port", "--service payment: 'port' says nothing"),
    ],
)
def test_a_service_that_is_written_wrongly_is_refused(written: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        _service(written)
    assert refused.value.message == said
