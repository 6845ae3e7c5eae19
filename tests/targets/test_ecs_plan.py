"""What a deployment makes of a task definition: properties of the pure functions, and ECS's own schema."""

from __future__ import annotations

import functools
import string
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from seamless.errors import StageError
from seamless.targets.ecs_plan import (
    ANSWERED_ONLY,
    Change,
    as_registered,
    changed,
    difference,
    image_of,
    new_tags,
    own_container,
)
from seamless.targets.ecs_sight import Ours, State, look

IMAGE = "registry.example:5000/acme/web@sha256:" + "1" * 64
names = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=8)
values = st.text(max_size=12)
variables = st.dictionaries(names, values, max_size=5)


@st.composite
def containers(draw: st.DrawFn, name: str) -> dict[str, Any]:
    env = draw(variables)
    secrets = {key: value for key, value in draw(variables).items() if key not in env}
    made: dict[str, Any] = {"name": name, "image": draw(names), "essential": draw(st.booleans())}
    if env:
        made["environment"] = [{"name": key, "value": value} for key, value in env.items()]
    if secrets:
        made["secrets"] = [{"name": key, "valueFrom": value} for key, value in secrets.items()]
    if options := draw(variables):
        made["logConfiguration"] = {"logDriver": "awslogs", "options": options}
    return made


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """As DescribeTaskDefinition answers."""
    others = draw(st.lists(names.filter(lambda name: name != "app"), unique=True, max_size=3))
    order = draw(st.permutations(["app", *others]))
    return {
        "taskDefinitionArn": "arn:aws:ecs:eu-central-1:123456789012:task-definition/web:1",
        "revision": 1,
        "status": "ACTIVE",
        "requiresAttributes": [{"name": "x"}],
        "compatibilities": ["FARGATE"],
        "registeredBy": "somebody",
        "family": "web",
        "cpu": "256",
        "memory": "512",
        "volumes": [],
        "containerDefinitions": [draw(containers(name)) for name in order],
    }


@st.composite
def changes(draw: st.DrawFn) -> Change:
    env = draw(variables)
    secrets = {key: value for key, value in draw(variables).items() if key not in env}
    return Change("app", IMAGE, env, secrets)


def container(definition: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in definition["containerDefinitions"] if each["name"] == name)


@given(definitions(), changes())
def test_only_the_own_containers_image_and_variables_change(definition: dict[str, Any], change: Change) -> None:
    new = changed(definition, change)
    assert ANSWERED_ONLY.isdisjoint(new)
    assert {key: value for key, value in new.items() if key != "containerDefinitions"} == {
        key: value for key, value in definition.items() if key not in ANSWERED_ONLY and key != "containerDefinitions"
    }
    before, after = definition["containerDefinitions"], new["containerDefinitions"]
    assert [each["name"] for each in before] == [each["name"] for each in after]
    assert [each for each in before if each["name"] != "app"] == [each for each in after if each["name"] != "app"]
    old, own = container(definition, "app"), container(new, "app")
    touched = {"image", "environment", "secrets"}
    assert {k: v for k, v in old.items() if k not in touched} == {k: v for k, v in own.items() if k not in touched}
    assert own["image"] == IMAGE
    env = {each["name"]: each["value"] for each in own.get("environment", [])}
    secrets = {each["name"]: each["valueFrom"] for each in own.get("secrets", [])}
    old_env = {each["name"]: each["value"] for each in old.get("environment", [])}
    old_secrets = {each["name"]: each["valueFrom"] for each in old.get("secrets", [])}
    assert env == {**{k: v for k, v in old_env.items() if k not in change.secrets}, **change.env}
    assert secrets == {**{k: v for k, v in old_secrets.items() if k not in change.env}, **change.secrets}
    assert env.keys().isdisjoint(secrets)
    assert len(own.get("environment", [])) == len(env)


@given(definitions(), changes())
def test_the_same_change_twice_is_the_change_once_and_the_difference_knows(
    definition: dict[str, Any], change: Change
) -> None:
    once = changed(definition, change)
    answered = {**once, "taskDefinitionArn": "arn:aws:ecs:eu-central-1:123456789012:task-definition/web:2"}
    assert changed(answered, change) == once
    assert difference(answered, once) == []
    lines = difference(definition, once)
    assert any("image" in line for line in lines)
    assert as_registered(definition) == changed(definition, Change("nobody", ""))


@given(definitions(), changes())
def test_the_difference_tells_no_value_that_was_there(definition: dict[str, Any], change: Change) -> None:
    own = container(definition, "app")
    own["environment"] = [{"name": name, "value": f"hidden-{name}"} for name in change.env]
    assert not any("hidden-" in line for line in difference(definition, changed(definition, change)))


@given(definitions(), changes())
def test_what_is_registered_is_of_ecs_own_schema(definition: dict[str, Any], change: Change) -> None:
    shape = ecs_model().operation_model("RegisterTaskDefinition").input_shape
    parameters = {**changed(definition, change), "tags": new_tags({"team": "a", "aws:x": "b"}, {"ours": "c"})}
    assert ParamValidator().validate(parameters, shape).generate_report() == ""


@functools.cache
def ecs_model() -> Any:
    return botocore.session.Session().get_service_model("ecs")


def test_the_container_is_found_by_its_name_else_it_is_the_only_one() -> None:
    arn = "arn:aws:ecs:x:1:task-definition/web:3"
    one = {"taskDefinitionArn": arn, "containerDefinitions": [{"name": "main"}]}
    two = {"taskDefinitionArn": arn, "containerDefinitions": [{"name": "web"}, {"name": "proxy"}]}
    assert [own_container(one, "web", None), own_container(two, "web", None)] == ["main", "web"]
    assert own_container(two, "other", "proxy") == "proxy"
    for definition, wanted in ((one, "app"), (two, "app")):
        with pytest.raises(StageError, match="web:3 has no container app, only"):
            own_container(definition, "web", wanted)
    with pytest.raises(StageError, match="no container other, only web, proxy"):
        own_container(two, "other", None)


def test_an_image_is_a_digest_or_nobody_knows_which() -> None:
    def of(image: str) -> tuple[str | None, str] | None:
        found = image_of({"containerDefinitions": [{"name": "app", "image": image}]}, "app")
        return None if found is None else (found.repository, found.digest)

    assert of(IMAGE) == ("registry.example:5000/acme/web", "sha256:" + "1" * 64)
    assert of("acme/web:v1@sha256:2") == ("acme/web", "sha256:2")
    assert of("acme/web:v1") is None


parts = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["old", "ours", "other"]),
        "taskDefinition": st.sampled_from(["web:1", "web:2", "web:3"]),
        "rolloutState": st.sampled_from(["IN_PROGRESS", "COMPLETED", "FAILED"]),
        "desiredCount": st.integers(0, 2),
        "runningCount": st.integers(0, 2),
        "rolloutStateReason": st.sampled_from(["", "ECS deployment circuit breaker: rolling back to x"]),
    }
)


@given(st.lists(parts, min_size=1, max_size=3, unique_by=lambda part: part["id"]), st.booleans())
def test_success_is_told_only_when_our_own_deployment_is_stable_and_primary(
    found: list[dict[str, Any]], seen: bool
) -> None:
    service = {"deployments": [{**part, "status": "ACTIVE" if n else "PRIMARY"} for n, part in enumerate(found)]}
    sight = look(service, Ours("ours", "web:2", "old", "web:1"), seen=seen)
    assert sight is not None
    primary = found[0]
    ours_is_stable = (
        (primary["id"], primary["taskDefinition"], primary["rolloutState"]) == ("ours", "web:2", "COMPLETED")
        and primary["runningCount"] == primary["desiredCount"]
    )  # fmt: skip
    assert (sight.state is State.COMPLETED) == ours_is_stable
    if sight.state in (State.ROLLED_BACK, State.ROLLING_BACK, State.SUPERSEDED) and primary["id"] == "ours":
        assert primary["taskDefinition"] != "web:2"


def test_the_first_secrets_are_told_by_name_and_other_values_as_json() -> None:
    before = {"taskDefinitionArn": "x/web:1", "containerDefinitions": [{"name": "app", "image": "a", "cpu": 1}]}
    app = {"name": "app", "image": "a", "secrets": [{"name": "DB", "valueFrom": "arn:db"}], "ulimits": [{"soft": 1}]}
    after = {**before, "containerDefinitions": [app]}
    told = ["app: cpu: removed", "app: secrets DB: added, arn:db", 'app: ulimits: added, [{"soft": 1}]']
    assert difference(before, after) == told
    assert {"app: secrets DB: removed", "app: ulimits: removed"} < set(difference(after, before))
