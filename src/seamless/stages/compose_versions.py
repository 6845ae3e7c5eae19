"""Which Docker Compose a Compose file needs: the keys that came later than 1.29, and when they came."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from seamless.executors.builder import Version

# Dotted places; "*" is any name or any item of a list. From the Compose file reference and the release notes.
_SINCE: Final[Mapping[str, Version]] = {
    "name": (2, 3, 3),
    "include": (2, 20, 0),
    "models": (2, 38, 0),
    "services.*.annotations": (2, 17, 0),
    "services.*.attach": (2, 20, 0),
    "services.*.build.additional_contexts": (2, 17, 0),
    "services.*.build.dockerfile_inline": (2, 17, 0),
    "services.*.build.entitlements": (2, 27, 1),
    "services.*.build.no_cache": (2, 4, 0),
    "services.*.build.platforms": (2, 11, 0),
    "services.*.build.privileged": (2, 15, 0),
    "services.*.build.pull": (2, 4, 0),
    "services.*.build.secrets": (2, 6, 0),
    "services.*.build.ssh": (2, 4, 0),
    "services.*.build.tags": (2, 6, 0),
    "services.*.build.ulimits": (2, 23, 1),
    "services.*.cgroup": (2, 15, 0),
    "services.*.configs": (2, 0, 0),  # 1.29 only warns that it leaves them out
    "services.*.depends_on.*.required": (2, 20, 0),
    "services.*.depends_on.*.restart": (2, 17, 0),
    "services.*.develop": (2, 22, 0),
    "services.*.env_file.*.format": (2, 30, 0),
    "services.*.env_file.*.path": (2, 24, 0),
    "services.*.gpus": (2, 30, 0),
    "services.*.healthcheck.start_interval": (2, 20, 2),
    "services.*.label_file": (2, 32, 2),
    "services.*.models": (2, 38, 0),
    "services.*.post_start": (2, 30, 0),
    "services.*.pre_stop": (2, 30, 0),
    "services.*.provider": (2, 36, 0),
    "services.*.use_api_socket": (2, 37, 0),
    "services.*.uts": (2, 15, 1),
    "configs.*.content": (2, 23, 1),
    "configs.*.environment": (2, 23, 1),
    "secrets.*.environment": (2, 6, 0),
}
_TAGS_SINCE: Final[Mapping[str, Version]] = {"!reset": (2, 18, 0), "!override": (2, 24, 4)}


def needed_version(document: Mapping[str, Any], tags: Collection[str]) -> Iterator[tuple[str, Version]]:
    """(place in the file, version since which there is such a thing), as far as the table knows."""
    for place, version in _SINCE.items():
        yield from ((found, version) for found in _find(document, place.split("."), ""))
    yield from ((tag, _TAGS_SINCE[tag]) for tag in sorted(tags) if tag in _TAGS_SINCE)


def shown_version(version: Version) -> str:
    return ".".join(map(str, version))


def _find(value: object, place: list[str], path: str) -> Iterator[str]:
    if not place:
        yield path
        return
    head, rest = place[0], place[1:]
    if isinstance(value, list) and head == "*":
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return
    for name in value if head == "*" else (head,) if head in value else ():
        yield from _find(value[name], rest, f"{path}.{name}" if path else str(name))
