"""One agent over moto: secrets of stages, notices to a topic, environments and doctor, through the API and the CLI."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from e2e.conftest import Shop
from harness.agents import stage_of
from harness.aws import CREDENTIALS, REGION, Moto, Refusal, serving
from harness.cloudformation import CloudFormation

pytestmark = [pytest.mark.engine, pytest.mark.fake]

SECRET = "correct horse battery"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:releases"


@pytest.fixture
def moto() -> Iterator[Moto]:
    with serving() as one:
        yield one
        assert one.troubles == []


def received(moto: Moto, queue: str) -> list[str]:
    """The subjects that have arrived there, once there are some."""
    deadline = time.monotonic() + 60
    while not (found := moto.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages")):
        assert time.monotonic() < deadline, "nothing has arrived"
        time.sleep(0.1)
    return [json.loads(message["Body"])["Subject"] for message in found]


def test_an_agent_uses_aws(shop: Shop, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    CloudFormation(moto)
    moto.client("ssm").put_parameter(Name="/web/word", Value=SECRET, Type="SecureString")
    topic = moto.client("sns").create_topic(Name="releases")["TopicArn"]
    queue = moto.client("sqs").create_queue(QueueName="of-team")["QueueUrl"]
    moto.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:123456789012:of-team")
    shop.configure(
        'unit_test = "echo the word is $WORD; exit 3"\nsecrets.WORD = { ssm = "/web/word" }\nport = 3000\n',
        more=f'[aws]\nregion = "{REGION}"\nendpoint_url = "{moto.url}"\n[notify.team]\nsns = "{TOPIC}"\n',
    )
    agent = shop.agent
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    agent.start()

    run = agent.run("web", checks=True)
    assert stage_of(run, "unit_test")["reason"] == "exit code 3"
    assert agent.read_log(run["id"], "unit_test").startswith("the word is ***\n")
    assert received(moto, queue) == ["web-1 failed in unit_test: exit code 3"]

    tried = agent.cli("notify", "test")
    assert (tried.returncode, tried.stdout) == (
        0,
        "  ✔ notify.team  sns took a test message; look whether it has arrived\n",
    )
    assert received(moto, queue)[0].startswith("Seamless can tell team what happens")

    made = agent.cli("env", "up", "staging", "--yes", "--cpu", "512")
    assert made.returncode == 0, made.stderr
    assert "service WebService create complete\n" in made.stdout
    assert "✔ staging is up\n" in made.stdout
    again = agent.cli("env", "up", "staging")
    assert again.stdout.startswith("staging in eu-central-1: nothing to change in the stack seamless-staging\n")
    gone = agent.cli("env", "down", "staging", "--confirm", "staging")
    assert (gone.returncode, gone.stdout.splitlines()[-1]) == (0, "✔ staging is gone")
    actions = agent.client.events(kind="action", limit=100)
    audit = [(event["name"], event["data"]["action"]) for event in actions if event["name"].startswith("env_")]
    assert audit == [("env_up", "create"), ("env_down", "delete")]

    moto.refuse("SimulatePrincipalPolicy", Refusal("AccessDenied", status=403))  # moto has none
    looked = json.loads(agent.cli("doctor", "--json").stdout)
    levels = {finding["subject"]: finding["level"] for finding in looked}
    assert (levels["aws"], levels["aws.permissions"]) == ("ok", "not_checked")
