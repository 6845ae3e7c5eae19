"""The parameters of the service in a folder: its language's, and what Dockerfile and Compose files add."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from seamless.config.values import IMAGE_NAME
from seamless.discovery.files import Files, table_at
from seamless.discovery.jvm import java
from seamless.discovery.languages import go, node, python, ruby, rust
from seamless.discovery.suggestions import Suggestion

__all__ = ["Suggestion", "folders_of", "propose"]

_LANGUAGES: Final = (node, python, go, java, ruby, rust)
_MANIFESTS: Final = frozenset(
    [
        "package.json",
        "pyproject.toml",
        "setup.py",
        "requirements.txt",
        "Pipfile",
        "go.mod",
        "pom.xml",
        "build.gradle",
        "build.gradle.kts",
        "Gemfile",
        "Cargo.toml",
    ]
)
_DOCKERFILE: Final = r"(?:docker/|build/|deploy/)?(?:Dockerfile|Containerfile)(?:\.[\w.-]+)?"
_COMPOSE: Final = r"(?:[\w.-]+/){0,2}[\w.-]*compose[\w.-]*\.ya?ml"
_TEST_SERVICES: Final = (
    "tests",
    "test",
    "integration-tests",
    "integration-test",
    "integration",
    "e2e",
    "sut",
    "tester",
)
_NOT_A_SERVICE: Final = re.compile(
    r"(?:^|/)(?:node_modules|vendor|third_party|\.[^/]+|testdata|fixtures|examples?)(?:/|$)"
)
# Of these a service has no need; those of the pipeline, made for another language, must not run here.
_OF_THE_LANGUAGE: Final = ("install", "code_quality", "unit_test")


@dataclass(frozen=True, slots=True)
class _Dockerfile:
    port: int | None
    health: str | None
    base: str | None  # the last stage's image


def folders_of(files: Files) -> list[str]:
    """Folders that may hold a service, "" for the top: those with a Dockerfile, or else with a language's manifest."""
    found = [folder for folder in files.folders() if not _NOT_A_SERVICE.search(folder)]
    built = [folder for folder in found if _join(folder, "Dockerfile") in files]
    return built or [folder for folder in found if any(_join(folder, name) in files for name in _MANIFESTS)]


def propose(files: Files) -> list[Suggestion]:
    """What to set for the service that lies at the top of `files`; the first suggestion for a key is the better one."""
    found: list[Suggestion] = []
    for language in _LANGUAGES:
        if suggestions := list(language(files)):
            found += suggestions
            break
    found += _of_dockerfile(files, any(one.key == "image" for one in found))
    found += _of_compose(files)
    told = {one.key for one in found}
    found += [
        Suggestion(key, "", "nothing that would do this was found") for key in _OF_THE_LANGUAGE if key not in told
    ]
    if "caches" not in told:
        found.append(Suggestion("caches", [], "no known package manager keeps a cache here"))
    if "junit" not in told:
        found.append(Suggestion("junit", [], "no test runner with JUnit reports was found"))
    return list({one.key: one for one in reversed(found)}.values())[::-1]


def _of_dockerfile(files: Files, has_image: bool) -> Iterator[Suggestion]:
    paths = files.matching(_DOCKERFILE)
    if not paths:
        return
    path = files.first("Dockerfile") or paths[0]
    if path != "Dockerfile":
        others = f", beside {', '.join(paths[1:4])}" if len(paths) > 1 else ""
        yield Suggestion("build.dockerfile", path, f"it is there{others}; there is no Dockerfile at the top")
    read = _dockerfile(files.text(path))
    if read.port is not None:
        yield Suggestion("port", read.port, f"EXPOSE in {path}")
    if read.health is not None:
        yield Suggestion("health", read.health, f"HEALTHCHECK in {path}")
    if read.base is not None and not has_image:
        yield Suggestion("image", read.base, f"FROM in {path}; no language was recognised")


def _dockerfile(text: str) -> _Dockerfile:
    lines = re.sub(r"\\[ \t]*\r?\n", " ", text).splitlines()
    port, health, base = None, None, None
    stages: set[str] = set()
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        match word.upper():
            case "FROM":
                port = health = None  # of an earlier stage, which is not what runs
                names = [part for part in rest.split() if not part.startswith("--")]
                base = names[0] if names and names[0] not in {*stages, "scratch"} else None
                base = base if base is not None and re.fullmatch(IMAGE_NAME, base) else None
                if len(names) == 3:
                    stages.add(names[2])
            case "EXPOSE":
                number = re.match(r"\s*(\d{1,5})(?:/tcp)?(?:\s|$)", rest)
                if port is None and number and 0 < int(number[1]) < 65536:
                    port = int(number[1])
            case "HEALTHCHECK":
                url = re.search(r"https?://[^/\s\"']+(/[\w./~-]*)", rest)
                health = url[1] if url else None
    return _Dockerfile(port, health, base)


def _of_compose(files: Files) -> Iterator[Suggestion]:
    """A Compose file with a service that tests the others."""
    for path in sorted(
        files.matching(_COMPOSE), key=lambda path: ("test" not in path and "integration" not in path, path)
    ):
        services = table_at(files.yaml(path), "services")
        tester = next((name for name in _TEST_SERVICES if name in services), None)
        if tester is None or len(services) < 2:
            continue
        yield Suggestion("integration_test.compose_file", path, f"it has a service {tester} beside others")
        yield Suggestion("integration_test.test_service", tester, f"a service of {path}")
        return


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
