"""`seamless check`: whether a configuration would work, before a run finds out. Changes nothing.

The file itself first; when it is right, what it names: repositories and branches, secrets, files of the host, images,
Dockerfiles and Compose files. The same is looked at once, and several at a time.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from seamless import findings
from seamless.agent.workspaces import repository_of
from seamless.config import Config, Parameters, SecretRef, load_config
from seamless.config.problems import dotted
from seamless.errors import ConfigError, SeamlessError, StageError
from seamless.executors.builder import compose_cli
from seamless.executors.engine import Engine
from seamless.executors.lookup import check_pullable, is_here
from seamless.findings import Finding
from seamless.forges import Forge
from seamless.model import Environment, Trust
from seamless.secretrefs import can_read, resolve
from seamless.stages.compose import resolve_model
from seamless.stages.compose_file import raise_problems, read_compose_file
from seamless.stages.compose_policy import Policy, check_model

_AT_ONCE: Final = 6
_PROBLEM: Final = re.compile(
    r"(?P<file>.*?): (?P<key>(?:[\w.\[\]-]|\"(?:[^\"\\]|\\.)*\")+): (?P<text>.*)", re.DOTALL
)  # a line of a ConfigError

KeyPath = tuple[str | int, ...]
Look = Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Checker:
    """`scratch`: a folder for checkouts that live for one look."""

    forge: Forge
    scratch: Path

    async def check(self, file: Path, *, offline: bool = False) -> list[Finding]:
        """Everything that was looked at, in the file's order; `offline` looks at nothing but this host's files."""
        try:
            config = await asyncio.to_thread(load_config, file)
        except ConfigError as error:
            return [_problem(file, line, error.hint) for line in error.message.splitlines()]
        counted = f"{len(config.services)} service{'' if len(config.services) == 1 else 's'}"
        found = [findings.ok(file.name, f"is a valid configuration of {counted}")]
        looks = list(_of_host(config, offline))
        if offline:
            return found + await _all(looks)
        async with _engine() as engine:
            looks += _images(config, engine)
            looks += [_repository(self, name, service) for name, service in config.services.items()]
            return found + await _all(looks)


async def _all(looks: list[Look]) -> list[Finding]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(look: Look) -> Finding:
        async with slots:
            return await look()

    return list(await asyncio.gather(*(one(look) for look in looks)))


def _problem(file: Path, line: str, hint: str | None) -> Finding:
    """One line of a ConfigError: "seamless.toml: services.web.prot: no such parameter; did you mean port?"."""
    match = _PROBLEM.fullmatch(line)
    if match is None:
        return findings.error(file.name, line.partition(": ")[2] or line, hint or f"edit {file}")
    return findings.error(match["key"], match["text"], f"change {match['key']} in {file}")


# -- this host's files and secrets


def _of_host(config: Config, offline: bool) -> Iterator[Look]:
    for path, ref in _secrets(config):
        yield _secret(dotted(path), ref, config.file, _why_not_read(path, ref, config, offline))
    for place, file in _files(config):
        yield _file(place, file, config.file)


def _secrets(config: Config) -> Iterator[tuple[KeyPath, SecretRef]]:
    """Each reference once, with the first place where it stands."""
    seen: set[tuple[str, str]] = set()
    tables: dict[str, Any] = {"registries": config.registries, "environments": config.environments}
    tables |= {"agent": config.agent, "github": config.github, "notify": config.notify}
    for path, ref in _references({**tables, "services": config.services}, ()):
        if (ref.source, ref.place) not in seen:
            seen.add((ref.source, ref.place))
            yield path, ref


def _references(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, SecretRef]]:
    if isinstance(value, SecretRef):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _references(one, (*path, str(key)))


def _why_not_read(path: KeyPath, ref: SecretRef, config: Config, offline: bool) -> str | None:
    """Why a secret is not looked at from here; None when it is."""
    in_environment = path[2:5:2] == ("environments", "secrets")
    if in_environment and config.environments[Environment(str(path[3]))].target == "ecs":
        return f"{ref.reference} is read by ECS; a deployment looks that it is there"
    if offline and ref.source in ("ssm", "secretsmanager"):
        return f"{ref.reference} is not on this host"
    return None if can_read(ref) else f"{ref.reference} is read by the agent, and none answers"


def _secret(subject: str, ref: SecretRef, file: Path, why_not: str | None) -> Look:
    async def look() -> Finding:
        if why_not is not None:
            return findings.not_checked(subject, why_not)
        try:
            await asyncio.to_thread(resolve, ref)
        except SeamlessError as error:
            return findings.failed(subject, error, mend=f"set it, or change {subject} in {file}")
        return findings.ok(subject, f"{ref.reference} can be read")

    return look


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    if config.agent.ca_bundle is not None:
        yield "agent.ca_bundle", config.agent.ca_bundle
    for name, service in config.services.items():
        for inside, file in service.files.items():
            yield dotted(("services", name, "files", inside)), Path(file)
        for key in ("key", "known_hosts"):
            if (path := getattr(service.git, key)) is not None:
                yield f"services.{name}.git.{key}", path


def _file(subject: str, path: Path, file: Path) -> Look:
    async def look() -> Finding:
        if not path.exists():
            return findings.error(subject, f"there is no file {path}", f"put it there, or change {subject} in {file}")
        if not os.access(path, os.R_OK):
            return findings.error(subject, f"{path} is closed to the agent's user", f"open it to that user: {path}")
        return findings.ok(subject, f"{path} is there")

    return look


# -- images


@asynccontextmanager
async def _engine() -> AsyncIterator[Engine | SeamlessError]:
    """The engine, or why there is none: then images are not checked."""
    try:
        engine = await Engine.connect()
    except SeamlessError as error:
        yield error
        return
    try:
        yield engine
    finally:
        engine.close()


def _images(config: Config, engine: Engine | SeamlessError) -> Iterator[Look]:
    seen: set[str] = set()
    for name, service in config.services.items():
        if service.image is not None and service.image not in seen:
            seen.add(service.image)
            where = (
                "pipeline.image" if config.parameter_sources(name)["image"] == "pipeline" else f"services.{name}.image"
            )
            yield _image(where, service.image, config, engine)


def _image(subject: str, image: str, config: Config, engine: Engine | SeamlessError) -> Look:
    def login(registry: str) -> tuple[str, str] | None:
        known = config.registries.get(registry)
        return None if known is None else (known.username, resolve(known.password))

    async def look() -> Finding:
        if isinstance(engine, SeamlessError):
            return findings.not_checked(subject, engine.message, engine.hint)
        try:
            if await is_here(engine, image):
                return findings.ok(subject, f"{image} is on this engine")
            await check_pullable(engine, image, login)
        except SeamlessError as error:
            mend = f"change {subject} in {config.file}, or log in to its registry: [registries]"
            return findings.error(subject, f"{image} cannot be had: {error.message}", mend)
        return findings.ok(subject, f"{image} can be pulled")

    return look


# -- repositories


def _repository(checker: Checker, name: str, service: Parameters) -> Look:
    """Reachable, with the branch, its folder and Dockerfile, and a Compose file that would be taken."""
    subject = f"services.{name}"

    async def look() -> Finding:
        try:
            return await _looked(checker, subject, service)
        except SeamlessError as error:
            return findings.failed(f"{subject}.repo", error, mend=f"change {subject}.repo, or {subject}.git for access")

    return look


async def _looked(checker: Checker, subject: str, service: Parameters) -> Finding:
    with _scratch(checker.scratch) as files:
        if not await _checked_out(checker, service.repo, service.branch, service, files):
            return findings.error(
                f"{subject}.branch", f"{service.repo} has no branch {service.branch}", f"change {subject}.branch"
            )
        folder = files / service.path
        if not folder.is_dir():
            return findings.error(f"{subject}.path", f"there is no folder {service.path}", f"change {subject}.path")
        if not (folder / service.build.dockerfile).is_file():
            missing = f"there is no {service.build.dockerfile}"
            return findings.error(
                f"{subject}.build.dockerfile", missing, f"commit one, or change {subject}.build.dockerfile"
            )
        if service.integration_test is not None and (wrong := await _compose(checker, subject, service, files)):
            return wrong
        composed = " and a Compose file that is accepted" if service.integration_test else ""
        return findings.ok(f"{subject}.repo", f"reachable, with {service.branch}, a Dockerfile{composed}")


async def _compose(checker: Checker, subject: str, service: Parameters, files: Path) -> Finding | None:
    """What is wrong with the Compose file; None when it is accepted."""
    test = service.integration_test
    assert test is not None
    key = f"{subject}.integration_test"
    with _scratch(checker.scratch) as other, _scratch(checker.scratch) as work:
        checkout, folder = files, service.path
        if test.repo is not None:
            checkout, folder = other, test.path
            if not await _checked_out(checker, test.repo, test.branch, service, other):
                return findings.error(
                    f"{key}.branch", f"{test.repo} has no branch {test.branch}", f"change {key}.branch"
                )
        try:
            _, version = await compose_cli()
            read = await asyncio.to_thread(
                read_compose_file, checkout, test.compose_file, folder=folder, version=version
            )
            model = await resolve_model(read, work_dir=work)
            policy = Policy(checkout, Trust.TRUSTED, frozenset(test.map))
            await asyncio.to_thread(lambda: raise_problems(read.shown, check_model(model, policy)))
        except StageError as error:
            return findings.error(f"{key}.compose_file", error.message, error.hint or f"change {test.compose_file}")
        except SeamlessError as error:
            return findings.not_checked(f"{key}.compose_file", error.message, error.hint)
        missing = [name for name in (test.test_service, *test.map) if name not in model["services"]]
        if missing:
            where = "test_service" if test.test_service in missing else "map"
            has = ", ".join(model["services"])
            return findings.error(
                f"{key}.{where}", f"{read.shown} has no service {missing[0]}; it has {has}", f"change {key}.{where}"
            )
    return None


async def _checked_out(checker: Checker, url: str, branch: str, service: Parameters, files: Path) -> bool:
    """The branch's tree in `files`; False when there is no such branch. Raises as the forge does."""
    repository = await asyncio.to_thread(repository_of, url, service.git)
    ref = f"refs/heads/{branch}"
    commit = (await checker.forge.heads(repository, [ref])).get(ref)
    if commit is None:
        return False
    await checker.forge.fetch(repository, commit, ref)
    await checker.forge.checkout(repository, commit, files, files.with_name("index"))
    return True


@contextmanager
def _scratch(below: Path) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    below.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="check-", dir=below, ignore_cleanup_errors=True) as folder:
        files = Path(folder, "files")
        files.mkdir()
        yield files
