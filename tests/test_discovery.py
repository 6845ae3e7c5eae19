"""What repositories of each language are taken for; whatever is in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seamless.config.loading import config_from
from seamless.discovery import Files, folders_of, propose


def of(texts: dict[str, str]) -> Files:
    return Files(texts, texts.__getitem__)


def proposed(texts: dict[str, str]) -> dict[str, Any]:
    return {one.key: one.value for one in propose(of(texts))}


NODE = '{"scripts": {"lint": "eslint .", "test": "jest", "test:ci": "jest --ci"}, "engines": {"node": ">=20.1"}}'
PYPROJECT = """
[project]
requires-python = ">=3.11"
dependencies = ["fastapi"]
[project.optional-dependencies]
dev = ["pytest>=8", "mypy"]
[tool.ruff]
"""
CASES: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    (
        "npm",
        {"package.json": NODE, "package-lock.json": "{}"},
        {
            "image": "node:20",
            "install": "npm ci",
            "code_quality": "npm run lint",
            "unit_test": "npm run test:ci",
            "caches": ["/root/.npm"],
        },
    ),
    (
        "pnpm, .nvmrc before engines",
        {"package.json": NODE, "pnpm-lock.yaml": "", ".nvmrc": "v22.1.0\n"},
        {"image": "node:22", "install": "corepack enable\npnpm install --frozen-lockfile"},
    ),
    (
        "yarn 4",
        {"package.json": NODE, "yarn.lock": "", ".yarnrc.yml": ""},
        {"install": "corepack enable\nyarn install --immutable"},
    ),
    (
        "npm init's test",
        {"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'},
        {"unit_test": "", "install": "npm install"},
    ),
    (
        "pyproject",
        {"pyproject.toml": PYPROJECT, "tests/test_a.py": ""},
        {
            "image": "python:3.11",
            "install": "python -m venv .venv\n.venv/bin/pip install -e '.[dev]' ruff",
            "code_quality": ".venv/bin/python -m ruff check .\n.venv/bin/python -m mypy .",
            "unit_test": ".venv/bin/python -m pytest --junitxml=reports/unit.xml",
            "junit": ["reports/unit.xml"],
        },
    ),
    (
        "requirements",
        {"requirements.txt": "flask\n", "requirements-dev.txt": "flake8\n", "tests/test_a.py": ""},
        {
            "install": "python -m venv .venv\n.venv/bin/pip install -r requirements.txt -r requirements-dev.txt",
            "code_quality": ".venv/bin/python -m flake8",
            "unit_test": ".venv/bin/python -m unittest discover",
        },
    ),
    (
        "tools that nothing installs",
        {
            "pyproject.toml": '[project]\nname = "x"\n[tool.ruff]\n[dependency-groups]\ndev = ["pytest"]\n',
            "tests/test_a.py": "",
        },
        {
            "install": "python -m venv .venv\n.venv/bin/pip install -e . ruff pytest",
            "unit_test": ".venv/bin/python -m pytest --junitxml=reports/unit.xml",
        },
    ),
    (
        "a script with tests",
        {"pyproject.toml": "[tool.ruff]\n", "conftest.py": ""},
        {"install": "python -m venv .venv\n.venv/bin/pip install ruff pytest"},
    ),
    (
        "requirements without pytest",
        {"requirements.txt": "flask\n", "conftest.py": ""},
        {"install": "python -m venv .venv\n.venv/bin/pip install -r requirements.txt pytest"},
    ),
    (
        "poetry",
        {"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.10"\n', "poetry.lock": ""},
        {"image": "python:3.10"},
    ),
    (
        "go",
        {"go.mod": "module x\n\ngo 1.22.3\n", "main.go": "", "a/b_test.go": ""},
        {"image": "golang:1.22", "install": "go mod download", "unit_test": "go test ./..."},
    ),
    ("go, vendored", {"go.mod": "module x\n", "vendor/y/z.go": ""}, {"install": "", "code_quality": "go vet ./..."}),
    (
        "maven",
        {"pom.xml": "<java.version>17</java.version><artifactId>maven-checkstyle-plugin</artifactId>"},
        {"image": "maven:3-eclipse-temurin-17", "code_quality": "mvn -B checkstyle:check", "unit_test": "mvn -B test"},
    ),
    (
        "gradle",
        {"build.gradle.kts": "jvmToolchain(17)", "gradlew": ""},
        {"image": "eclipse-temurin:17", "unit_test": "sh ./gradlew --no-daemon test", "code_quality": ""},
    ),
    (
        "ruby",
        {"Gemfile": 'ruby "3.2.2"\ngem "rspec"\n', ".rubocop.yml": "", "spec/a_spec.rb": ""},
        {"image": "ruby:3.2", "code_quality": "bundle exec rubocop", "unit_test": "bundle exec rspec"},
    ),
    (
        "rust",
        {"Cargo.toml": '[package]\nrust-version = "1.75"\n', "Cargo.lock": ""},
        {"image": "rust:1.75", "install": "cargo fetch --locked", "unit_test": "cargo test --locked"},
    ),
    (
        "no language",
        {"Dockerfile": "FROM debian:12\nEXPOSE 80/tcp 443\n"},
        {"image": "debian:12", "port": 80, "install": "", "unit_test": "", "caches": []},
    ),
]


@pytest.mark.parametrize(("texts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_language_is_known_by_its_files(texts: dict[str, str], expected: dict[str, Any]) -> None:
    found = proposed(texts)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(("texts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_proposed_is_a_configuration_and_is_reasoned(texts: dict[str, str], expected: dict[str, Any]) -> None:
    check_valid(texts)
    assert set(expected) <= set(proposed(texts))


def check_valid(texts: dict[str, str]) -> None:
    table: dict[str, Any] = {"repo": "https://example.org/x"}
    for one in propose(of(texts)):
        assert one.why
        place = table
        *folders, key = one.key.split(".")
        for folder in folders:
            place = place.setdefault(folder, {})
        place[key] = one.value
    table.setdefault("image", "alpine")
    config_from({"services": {"x": table}}, Path("/x.toml"))


def test_dockerfiles_and_compose_files() -> None:
    found = proposed(
        {
            "docker/Dockerfile": "FROM node:20 AS build\nEXPOSE 9229\nHEALTHCHECK CMD curl http://x:1/debug\n"
            "FROM node:20-slim\nEXPOSE \\\n  3000\nHEALTHCHECK --interval=5s CMD curl -f http://localhost:3000/healthz\n",
            "compose.yml": "services: {app: {}, db: {}}",
            "deploy/compose.test.yml": "services: {app: {}, tests: {}}",
        }
    )
    assert (found["port"], found["health"], found["build.dockerfile"]) == (3000, "/healthz", "docker/Dockerfile")
    assert found["integration_test.compose_file"] == "deploy/compose.test.yml"
    assert found["integration_test.test_service"] == "tests"


def test_folders_of_a_monorepo() -> None:
    both = {
        "services/a/Dockerfile": "",
        "services/b/Dockerfile": "",
        "package.json": "{}",
        "node_modules/x/Dockerfile": "",
    }
    assert folders_of(of(both)) == ["services/a", "services/b"]
    assert folders_of(of({"a/go.mod": "", "b/package.json": "{}", "docs/x.md": ""})) == ["a", "b"]
    assert folders_of(of({"Dockerfile": "", "a/b": ""})) == [""]
    below = of({"services/a/package.json": NODE, "package.json": "{}"}).below("services").below("a")
    assert {one.key: one.value for one in propose(below)}["image"] == "node:20"


NAMES = st.sampled_from(
    ["package.json", "pyproject.toml", "go.mod", "pom.xml", "build.gradle", "Gemfile", "Cargo.toml", "Dockerfile",
     "compose.test.yml", ".nvmrc", "rust-toolchain.toml", ".ruby-version", "requirements.txt", "tests/test_x.py"]
)  # fmt: skip
HOSTILE = [
    '{"engines": 3, "scripts": []}',
    '{"scripts": {"lint": null, "test": {}}}',
    "project = 3",
    "[project]\ndependencies = 1",
    "services: [1]",
    "services: {tests: , x: }",
    "- &a [*a, *a]",
    "EXPOSE 99999999\nFROM\nHEALTHCHECK",
    "FROM -x\nHEALTHCHECK CMD curl http://h/~",
    "[toolchain]\nchannel=1",
    "[tool]\npoetry=[]",
    '[package]\nrust-version=["1"]',
    "[tool.poetry]\ngroup.x=1",
    '{"a":' * 2000,
]
TEXTS = st.text(max_size=60) | st.sampled_from(HOSTILE)


@given(st.dictionaries(NAMES, TEXTS, max_size=4))
@example({"Dockerfile": "FROM -x"})
@example({"Dockerfile": "FROM /"})
@example({"Dockerfile": "FROM ª"})
def test_nothing_in_a_repository_makes_it_fail(texts: dict[str, str]) -> None:
    check_valid(texts)
