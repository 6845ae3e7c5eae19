"""Calls of AWS over HTTP, answered by moto: what is repeated, what is not, and what a refusal says."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.wrappers import Response

from harness.aws import Moto, Refusal
from seamless.aws.errors import AwsDeniedError, AwsError, AwsThrottledError
from seamless.aws.sessions import Clouds
from seamless.config import Aws
from seamless.errors import ConfigError, UnavailableError

pytestmark = pytest.mark.fake

ROLE = "arn:aws:iam::123456789012:role/deploy"


def call(clouds: Clouds, access: Aws, operation: str = "list_clusters", **parameters: Any) -> dict[str, Any]:
    return asyncio.run(clouds.account(access).call("ecs", operation, **parameters))


def test_a_read_call_is_repeated_and_one_that_is_made_once_is_not(moto: Moto, clouds: Clouds, access: Aws) -> None:
    moto.refuse("ListClusters", Refusal("ThrottlingException"), Refusal("ServerException", status=500))
    assert call(clouds, access) == {"clusterArns": []}
    assert len(moto.called("ListClusters")) == 3
    moto.refuse("CreateCluster", Refusal("ServerException", status=500))
    with pytest.raises(UnavailableError, match="trouble with ecs:CreateCluster"):
        call(clouds, access, "create_cluster", clusterName="prod", once=True)
    assert len(moto.called("CreateCluster")) == 1


def test_an_answer_that_is_none_of_aws_is_told(moto: Moto, clouds: Clouds, access: Aws) -> None:
    """Such as the page of a proxy that asks for a log-in."""
    moto.instead(["ListRoles"], lambda *_: Response("<html>log in<br>", 200, content_type="text/html"))
    with pytest.raises(UnavailableError, match="what answers iam:ListRoles is not AWS"):
        asyncio.run(clouds.account(access).call("iam", "list_roles"))


def test_what_was_throttled_was_not_done_and_may_be_sent_again(
    moto: Moto, clouds: Clouds, access: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seamless.aws.sessions._THROTTLED_PAUSES_S", (0.01,))
    moto.refuse("CreateCluster", Refusal("ThrottlingException"))
    assert call(clouds, access, "create_cluster", clusterName="prod", once=True)["cluster"]["clusterName"] == "prod"
    moto.refuse("CreateCluster", *[Refusal("ThrottlingException")] * 2)
    with pytest.raises(AwsThrottledError):
        call(clouds, access, "create_cluster", clusterName="prod", once=True)


def test_a_refusal_names_the_permission(moto: Moto, clouds: Clouds, access: Aws) -> None:
    moto.refuse("ListClusters", Refusal("AccessDeniedException"))
    with pytest.raises(AwsDeniedError) as denied:
        call(clouds, access)
    assert denied.value.permission == "ecs:ListClusters"
    assert "allow ecs:ListClusters" in str(denied.value.hint)
    with pytest.raises(AwsError, match="refuses ecs:DescribeServices") as refused:
        call(clouds, access, "describe_services", cluster="prod", services=["web"])
    assert refused.value.aws_code == "ClusterNotFoundException"


def test_parameters_are_checked_before_they_are_sent(moto: Moto, clouds: Clouds, access: Aws) -> None:
    with pytest.raises(AwsError, match="no such ecs:DescribeServices"):
        call(clouds, access, "describe_services", services="web")
    assert moto.called("DescribeServices") == []


def test_credentials_that_are_over_are_looked_for_once_more(moto: Moto, clouds: Clouds, access: Aws) -> None:
    moto.refuse("ListClusters", Refusal("ExpiredTokenException"))
    assert call(clouds, access) == {"clusterArns": []}
    moto.refuse("ListClusters", *[Refusal("ExpiredTokenException")] * 2)
    with pytest.raises(UnavailableError, match="the credentials have expired"):
        call(clouds, access)


def test_an_account_that_does_not_answer_keeps_no_other_from_its_calls(moto: Moto, access: Aws) -> None:
    """More calls than there are threads hang in one account; they are let go at the end."""
    silent, clouds, reached = threading.Event(), Clouds(), threading.Semaphore(0)

    def hang() -> None:
        reached.release()
        silent.wait(30)

    moto.before("ListRoles", hang)

    async def main() -> dict[str, Any]:
        other = clouds.account(access.model_copy(update={"region": "us-east-1"}))
        hanging = [asyncio.create_task(other.call("iam", "list_roles")) for _ in range(20)]
        for _ in range(8):
            await asyncio.to_thread(reached.acquire)
        try:
            return await asyncio.wait_for(clouds.account(access).call("ecs", "list_clusters"), 60)
        finally:
            silent.set()
            await asyncio.gather(*hanging)

    assert asyncio.run(main()) == {"clusterArns": []}
    clouds.close()


def test_a_role_is_assumed_and_its_credentials_renew_themselves(moto: Moto, access: Aws) -> None:
    clouds = Clouds()
    assuming = access.model_copy(update={"assume_role": ROLE})
    call(clouds, assuming)
    call(clouds, assuming)
    assert [each["RoleArn"] for each in moto.called("AssumeRole")] == [ROLE]
    credentials = clouds.account(assuming)._session.get_credentials()
    credentials._expiry_time = datetime.now(UTC) + timedelta(seconds=5)
    call(clouds, assuming)
    assert len(moto.called("AssumeRole")) == 2
    clouds.close()


def test_a_role_that_may_not_be_assumed_is_named_as_such(moto: Moto, access: Aws) -> None:
    clouds = Clouds()
    moto.refuse("AssumeRole", Refusal("AccessDenied", status=403))
    with pytest.raises(AwsDeniedError, match="sts:AssumeRole"):
        call(clouds, access.model_copy(update={"assume_role": ROLE}))
    clouds.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"region": None}, "no region is set"),
        ({"profile": "nobody"}, "profile"),
    ],
)
def test_what_is_not_configured_is_told(
    settings: dict[str, Any], words: str, access: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ConfigError, match=words):
        call(Clouds(), access.model_copy(update=settings))


def test_no_credentials_are_told_with_what_to_do(access: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="no credentials were found") as caught:
        call(Clouds(), access)
    assert "aws.profile" in str(caught.value.hint)
