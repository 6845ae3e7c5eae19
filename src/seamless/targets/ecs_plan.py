"""What a deployment makes of a task definition: pure functions over what ECS and the configuration say.

The service's task definition lives in ECS. A deployment takes the one that runs, puts the image into the service's own
container, lays the configured variables over it, and keeps everything else to the letter: sidecars, roles, volumes,
limits, log drivers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from seamless.aws.placeholder import without_placeholder
from seamless.errors import StageError
from seamless.model import DigestKind, ImageRef

Definition = Mapping[str, Any]  # as DescribeTaskDefinition answers

# What DescribeTaskDefinition answers and RegisterTaskDefinition does not take.
ANSWERED_ONLY: Final = frozenset(
    {
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
        "deregisteredAt",
        "deleteRequestedAt",
    }
)
# Lists whose items have a name: their order is not what they say.
_NAMED: Final = frozenset({"containerDefinitions", "environment", "secrets", "volumes"})
TAG_INSTALLATION: Final = "seamless:installation"
TAG_DEPLOYMENT: Final = "seamless:deployment"
TAG_SERVICE: Final = "seamless:service"
TAG_RUN: Final = "seamless:run"
TAG_COMMIT: Final = "seamless:commit"
TAGS_MAX: Final = 50  # of one resource
_OURS: Final = (TAG_INSTALLATION, TAG_DEPLOYMENT, TAG_SERVICE, TAG_RUN, TAG_COMMIT)


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment changes in a task definition. A name is in `env` or in `secrets`, never in both."""

    container: str
    image: str  # "repository@sha256:…"
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # name -> valueFrom


def own_container(definition: Definition, service: str, wanted: str | None) -> str:
    """The name of the container that gets the image. Raises StageError, which names those that there are."""
    names = [str(each["name"]) for each in definition["containerDefinitions"]]
    if wanted is not None and wanted in names:
        return wanted
    if wanted is None and service in names:
        return service
    if wanted is None and len(names) == 1:
        return names[0]
    which = f"no container {wanted or service}" if wanted is not None or names else "no containers"
    raise StageError(
        f"the task definition {short_name(definition['taskDefinitionArn'])} has {which}, only {', '.join(names)}",
        hint=f"name the service's own one in services.{service}.ecs.container",
    )


def container_of(definition: Definition, name: str) -> Mapping[str, Any]:
    return next(each for each in definition["containerDefinitions"] if each["name"] == name)


def changed(current: Definition, change: Change) -> dict[str, Any]:
    """The parameters of RegisterTaskDefinition for `current` with that change. Tags are not part of it."""
    new = {key: copy.deepcopy(value) for key, value in current.items() if key not in ANSWERED_ONLY and key != "tags"}
    for number, there in enumerate(new["containerDefinitions"]):
        if there["name"] == change.container:
            container = new["containerDefinitions"][number] = without_placeholder(there)
            container["image"] = change.image
            _lay_over(container, "environment", "value", change.env, change.secrets)
            _lay_over(container, "secrets", "valueFrom", change.secrets, change.env)
    return new


def _lay_over(
    container: dict[str, Any], key: str, value: str, over: Mapping[str, str], elsewhere: Mapping[str, str]
) -> None:
    """Those that stay keep their place; new ones follow by name. ECS refuses a name that is both plain and secret."""
    kept = [
        {**each, value: over.get(each["name"], each[value])}
        for each in container.get(key, [])
        if each["name"] not in elsewhere
    ]
    known = {each["name"] for each in kept}
    items = kept + [{"name": name, value: over[name]} for name in sorted(over) if name not in known]
    if items or key in container:
        container[key] = items


def as_registered(definition: Definition) -> dict[str, Any]:
    """The parameters that register a definition again, to the letter."""
    return {key: copy.deepcopy(value) for key, value in definition.items() if key not in {*ANSWERED_ONLY, "tags"}}


def tags_of(answered: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """ECS's list of tags as a mapping."""
    return {tag["key"]: tag["value"] for tag in answered}


def new_tags(current: Mapping[str, str], ours: Mapping[str, str]) -> list[dict[str, str]]:
    """The tags of the definition that is registered: the current one's, with ours in place of its own."""
    kept = {key: value for key, value in current.items() if key not in _OURS and not key.lower().startswith("aws:")}
    room = TAGS_MAX - len(ours)
    return [{"key": key, "value": value} for key, value in [*list(kept.items())[:room], *ours.items()]]


def difference(current: Definition, new: Definition) -> list[str]:
    """What `new` changes, a line each; none when they say the same.

    Values of variables that `current` has are not told: people keep secrets there.
    """
    return list(_differences(_normal(as_registered(current)), _normal(as_registered(new)), ()))


def _differences(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[str]:
    if old == new:
        return
    if path[-1:] and path[-1] in _NAMED:  # one that is all new or all gone is told thing by thing
        old, new = old or {}, new or {}
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), (*path, key))
        return
    yield _told(path, old, new)


def _told(path: tuple[str, ...], old: Any, new: Any) -> str:
    where = _place(path)
    variable = "environment" in path[:-1]
    if old is None:
        return f"{where}: added, {_value(new)}"
    if new is None:
        return f"{where}: removed"
    return f"{where}: {_value(new)}, another value before" if variable else f"{where}: {_value(old)} → {_value(new)}"


def _place(path: tuple[str, ...]) -> str:
    """("containerDefinitions", "app", "environment", "A", "value") -> "app: environment A"."""
    parts = list(path)
    prefix = ""
    if parts[:1] == ["containerDefinitions"]:
        prefix, parts = f"{parts[1]}: " if len(parts) > 2 else "container ", parts[2:] or parts[1:]
    if parts[-1:] in (["value"], ["valueFrom"]) and len(parts) > 1:
        parts.pop()
    return prefix + " ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        for key in ("image", "value", "valueFrom"):
            if key in value:
                return _value(value[key])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _normal(value: Any, key: str = "") -> Any:
    """Lists of named things as mappings by name; what is empty as not there, since ECS answers it either way."""
    if isinstance(value, Mapping):
        normal = {name: _normal(item, name) for name, item in value.items()}
        return {name: item for name, item in normal.items() if item not in ({}, [], None)}
    if isinstance(value, list):
        if key in _NAMED:
            return {str(item["name"]): _normal({k: v for k, v in item.items() if k != "name"}) for item in value}
        return [_normal(item) for item in value]
    return value


def image_of(definition: Definition, container: str) -> ImageRef | None:
    """The digest that a container runs, None when it names a tag only."""
    named, at, digest = str(container_of(definition, container)["image"]).partition("@")
    host, slash, last = named.rpartition("/")
    repository = f"{host}{slash}{last.partition(':')[0]}"
    return ImageRef(digest, DigestKind.MANIFEST, repository) if at else None


def short_name(arn: str) -> str:
    """The part of an ARN that people say: "payment:42" of a task definition, an id of a task."""
    return arn.rpartition("/")[2]
