"""What a service of ECS runs beside what was deployed, and what a deployment would change. ECS is scripted."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from seamless.errors import StageError
from seamless.model import Environment

from .ecs_playing import DEFINITION, Player, image, recorded

pytestmark = pytest.mark.fake


def test_what_the_service_runs_is_told_and_who_put_it_there(healthy: Player) -> None:
    request = healthy.request()

    async def current() -> tuple[str | None, int | None, bool]:
        release = await healthy.target.current("web", Environment.PRODUCTION, request.settings)
        assert release is not None
        return release.image.digest, release.deployment, release.healthy

    def drift() -> str | None:
        (told,) = asyncio.run(healthy.target.drift([(recorded(healthy), request.settings)]))
        return told

    assert asyncio.run(current()) == (f"sha256:{'0' * 64}", None, True)
    healthy.deploy()
    assert asyncio.run(current())[:2] == (image(1).digest, 1)
    assert drift() is None
    trail = {"cluster": "prod", "service": "web"}
    healthy.ecs.trail = [
        {"Username": "robin", "CloudTrailEvent": '{"requestParameters": {"cluster": "prod", "service": "other"}}'},
        {"Username": "dana", "CloudTrailEvent": f'{{"requestParameters": {str(trail).replace(chr(39), chr(34))}}}'},
    ]
    healthy.ecs.deploy_from_outside()
    assert drift() == "runs web:3 registered by user/dana, and web-1 deployed web:2"
    healthy.ecs.definitions[-1]["registeredBy"] = ""
    assert drift() == "runs web:3, and web-1 deployed web:2; dana updated the service"


def test_many_services_are_asked_for_drift_ten_at_once(healthy: Player) -> None:
    healthy.deploy()
    mine = recorded(healthy)
    others = [dataclasses.replace(mine, id=2 + number, service=f"other-{number}") for number in range(24)]
    current = [(one, healthy.request(service=one.service).settings) for one in [mine, *others]]
    healthy.ecs.requests.clear()
    found = asyncio.run(healthy.target.drift(current))
    assert found == [
        None,
        *(f"has no service {one.service} in the cluster prod any more, and web-1 deployed web:2" for one in others),
    ]
    assert [len(call["services"]) for call in healthy.ecs.calls("DescribeServices")] == [10, 10, 5]
    with pytest.raises(StageError, match="there is no ECS cluster prd in eu-central-1"):
        asyncio.run(healthy.target.drift([(mine, healthy.request(cluster="prd").settings)]))


def test_the_difference_can_be_seen_without_deploying(healthy: Player) -> None:
    lines = asyncio.run(healthy.target.difference(healthy.request(task_env={"LOG_LEVEL": "info", "NEW": "1"})))
    assert lines == [
        f"app: image: {DEFINITION['containerDefinitions'][0]['image']} → {image(1).pullable}",
        "app: environment LOG_LEVEL: info, another value before",
        "app: environment NEW: added, 1",
    ]
    assert {call for call, _ in healthy.ecs.requests} == {"DescribeServices", "DescribeTaskDefinition"}
