"""The build stage: a BuildKit build of the pristine commit, pushed when the service has a registry.

`plan_build` decides everything and touches nothing; `build_image` carries the plan out. An attempt's image
carries a label that names the attempt, so that an agent which died after the build and before its record
finds the image again (`find_built`) instead of building twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from seamless import programs
from seamless.config import Build, format_duration
from seamless.crashpoints import crash_point
from seamless.errors import InterruptedStageError, StageError, UnavailableError
from seamless.executors.builder import docker_cli
from seamless.model import DigestKind, Image, ImageRef, Trust
from seamless.programs import Program, ProgramTimeoutError
from seamless.stages.build_failure import explain_build_failure, is_engine_lost
from seamless.stages.checkout import OutsideCheckoutError, resolve_inside
from seamless.stages.engine_api import ask_engine, find_objects
from seamless.stages.registry import (
    EngineWatch,
    RegistryAuth,
    client_environment,
    push_image,
    read_tail,
    write_private,
)

# Not the label of the installation: containers inherit their image's labels, and whatever carries that one is cleared.
LABEL_BUILD: Final = "io.seamless.build"
LABEL_REVISION: Final = "org.opencontainers.image.revision"
CACHE_NAMESPACE: Final = "BUILDKIT_CACHE_MOUNT_NS"

_SYNTAX: Final = re.compile(r"^(?:#|//)\s*syntax\s*=\s*(?P<image>\S+)", re.I)
_OFFICIAL_SYNTAX: Final = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """One attempt to build one image. Paths are real ones, inside the checkout."""

    service: str
    commit: str
    attempt: str  # "<installation>/<run>/<attempt>": the value of LABEL_BUILD
    context: Path
    dockerfile: Path
    repository: str
    tag: str
    key: str
    push: bool
    cache_namespace: str
    target: str = ""
    platform: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    secret_names: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What a build made. `ref` is what everything after it uses."""

    ref: ImageRef
    tag: str
    image_id: str  # of this engine, also when `ref` is a manifest


def build_key(build: Build, path: str) -> str:
    """Same commit and same key: same image. Of every parameter that can change the image; of secrets the names only."""
    material = {
        "path": path,
        "dockerfile": build.dockerfile,
        "context": build.context,
        "args": dict(build.args),
        "target": build.target,
        "platform": build.platform,
        "secrets": sorted(build.secrets),
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def image_repository(service: str, registry: str | None, installation: str) -> str:
    """Where a service's images are named: in its registry, or in this engine under the installation's name."""
    return f"{registry}/{service}" if registry else f"seamless-{installation}/{service}"


def image_tag(commit: str, run: str, number: int, trust: Trust, *, rebuild: bool) -> str:
    """`<sha>`, rebuilt `<sha>-<run number>`; of a run that is not trusted `untrusted-<run id>`."""
    if trust is not Trust.TRUSTED:
        return f"untrusted-{run}"
    return f"{commit}-{number}" if rebuild else commit


def plan_build(
    *,
    service: str,
    commit: str,
    run: str,
    number: int,
    attempt: int,
    trust: Trust,
    tree: Path,
    path: str,
    build: Build,
    registry: str | None,
    installation: str,
    rebuild: bool = False,
) -> BuildPlan:
    """Plans the build of `tree`, a checkout as it was committed; `path` is the service's folder in it.

    Reads the checkout, writes nothing. Raises StageError when the Dockerfile or the context is missing or
    leads out of the checkout.
    """
    base = tree / path
    context = _inside(tree, base, build.context, "the build context")
    dockerfile = _inside(tree, base, build.dockerfile, "the Dockerfile")
    if not context.is_dir():
        raise StageError(
            f"there is no folder {_shown(path, build.context)} to build in", hint="set build.context, or path"
        )
    if not dockerfile.is_file():
        raise StageError(
            f"there is no file {_shown(path, build.dockerfile)} to build from",
            hint="commit one there, or set build.dockerfile",
        )
    if trust is not Trust.TRUSTED:
        check_syntax(dockerfile.read_text(errors="replace"), _shown(path, build.dockerfile))
    return BuildPlan(
        service=service,
        commit=commit,
        attempt=f"{installation}/{run}/{attempt}",
        context=context,
        dockerfile=dockerfile,
        repository=image_repository(service, registry, installation),
        tag=image_tag(commit, run, number, trust, rebuild=rebuild),
        key=build_key(build, path),
        push=registry is not None,
        cache_namespace=cache_namespace(installation, service, trust),
        target=build.target,
        platform=build.platform,
        args=dict(build.args),
        secret_names=tuple(sorted(build.secrets)),
    )


def cache_namespace(installation: str, service: str, trust: Trust) -> str:
    """Keeps cache mounts apart by service and trust. Without "/", by which BuildKit joins it to a mount's id."""
    return f"seamless-{installation}-{service}-{trust.value}"


def check_syntax(dockerfile: str, shown: str) -> None:
    """Raises StageError when an untrusted Dockerfile brings a front end of its own.

    A front end can name cache mounts of other namespaces, so that it could poison those of trusted builds.
    """
    if dockerfile.lstrip("\ufeff \t\r\n").startswith("{"):
        raise StageError(f"{shown} is not a Dockerfile")
    for line in dockerfile.lstrip("\ufeff").splitlines():
        text = line.strip()
        if text and not text.startswith(("#", "//")):
            return
        match = _SYNTAX.match(text)
        if match is not None and not _OFFICIAL_SYNTAX.fullmatch(match["image"]):
            raise StageError(
                f"{shown}: syntax={match['image']} is not allowed in a run that is not trusted",
                hint="use docker/dockerfile, or none",
            )


async def build_image(
    plan: BuildPlan,
    *,
    spool: Path,
    secrets: Mapping[str, str],
    registry_auth: RegistryAuth,
    work_dir: Path,
    timeout_s: float,
) -> BuiltImage:
    """Builds, and pushes when the plan says so. All output goes to `spool`; `work_dir` is a folder of this attempt.

    `secrets` are the values of `plan.secret_names`. Safe to repeat: what this attempt has built is not built
    again. Raises StageError with the reason (it can quote the Dockerfile: redact it as the log), and
    InterruptedStageError when the engine went away.
    """
    missing = [name for name in plan.secret_names if name not in secrets]
    if missing:  # BuildKit would build without them and say nothing
        raise StageError(
            f"the build secrets {', '.join(missing)} are not there for this run",
            hint='a run that is not of the branch needs expose = ["pr"]',
        )
    image_id = await find_built(plan)
    if image_id is None:
        image_id = await _build(
            plan, spool=spool, secrets=secrets, registry_auth=registry_auth, work_dir=work_dir, timeout_s=timeout_s
        )
        crash_point("build:after_build")
    ref = ImageRef(image_id, DigestKind.IMAGE_ID)
    if plan.push:
        ref = await push_image(
            plan.repository, plan.tag, spool=spool, auth=registry_auth, work_dir=work_dir, timeout_s=timeout_s
        )
        crash_point("build:after_push")
    return BuiltImage(ref, plan.tag, image_id)


async def find_built(plan: BuildPlan) -> str | None:
    """The id of the image that this very attempt has built and tagged, or None."""
    found = await _images(label=f"{LABEL_BUILD}={plan.attempt}", reference=plan.named)
    return found[0] if found else None


async def remove_image(image: Image, installation: str) -> None:
    """Takes its names off this engine, and the image when nothing else names or uses it. Raises UnavailableError.

    A tag that another image has by now, built anew for the same commit, is left alone.
    """
    tagged = f"{image.ref.repository or image_repository(image.service, None, installation)}:{image.tag}"
    pushed = image.ref.pullable if image.ref.kind is DigestKind.MANIFEST else None
    ids = [image.ref.digest] if pushed is None else await _images(reference=pushed)
    if set(ids) & set(await _images(reference=tagged)):
        await _remove(tagged)
    if pushed is not None:
        await _remove(pushed)


async def clear_build(plan: BuildPlan, work_dir: Path) -> None:
    """Removes what an attempt that lost its agent left: secrets, credentials, images without a name."""
    shutil.rmtree(work_dir, ignore_errors=True)
    for image in await _images(label=f"{LABEL_BUILD}={plan.attempt}", dangling="true"):
        await _remove(image)


async def _build(
    plan: BuildPlan,
    *,
    spool: Path,
    secrets: Mapping[str, str],
    registry_auth: RegistryAuth,
    work_dir: Path,
    timeout_s: float,
) -> str:
    docker = await docker_cli()
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = spool.stat().st_size
    with (
        tempfile.TemporaryDirectory(prefix=".build-", dir=work_dir) as folder,
        client_environment(work_dir, registry_auth, docker) as environment,
    ):
        private = Path(folder)
        for position, name in enumerate(plan.secret_names):
            write_private(private / f"secret-{position}", secrets[name].encode())
        command = Program([docker, *build_arguments(plan)], {**environment, "DOCKER_BUILDKIT": "1"}, cwd=private)
        async with EngineWatch() as engine:
            try:
                exit_code = await programs.run(command, output=spool, timeout_s=timeout_s)
            except ProgramTimeoutError:
                raise StageError(f"timed out after {format_duration(timeout_s)}") from None
            if exit_code == 0:
                return (private / "image-id").read_text().strip()
            printed = read_tail(spool, start)
            if exit_code < 0:
                raise InterruptedStageError("the builder was killed")
            if is_engine_lost(printed) or await engine.went_away():
                raise InterruptedStageError("the engine went away")
            raise StageError(explain_build_failure(printed), exit_code=exit_code)


def build_arguments(plan: BuildPlan) -> list[str]:
    """What follows `docker`. Relative files (the image id, the secrets) are in the folder that it runs in."""
    arguments = ["build", "--progress=plain", "--iidfile", "image-id", "--file", str(plan.dockerfile)]
    arguments += ["--tag", plan.named]
    arguments += ["--label", f"{LABEL_BUILD}={plan.attempt}", "--label", f"{LABEL_REVISION}={plan.commit}"]
    for name, value in plan.args.items():
        arguments += ["--build-arg", f"{name}={value}"]
    arguments += ["--build-arg", f"{CACHE_NAMESPACE}={plan.cache_namespace}"]  # last, so that no argument undoes it
    for position, name in enumerate(plan.secret_names):
        arguments += ["--secret", f"id={name},src=secret-{position}"]
    if plan.target:
        arguments += ["--target", plan.target]
    if plan.platform:
        arguments += ["--platform", plan.platform]
    return [*arguments, "--", str(plan.context)]


async def _images(**filters: str) -> list[str]:
    found = await find_objects("images/json", {name: [value] for name, value in filters.items()})
    return [str(image["Id"]) for image in found]


async def _remove(image: str) -> None:
    """By its name or id."""
    answer = await ask_engine("DELETE", f"/images/{image}")
    if answer.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        raise UnavailableError(f"the image {image} cannot be removed: {answer.message}")


def _inside(tree: Path, base: Path, path: str, what: str) -> Path:
    try:
        return resolve_inside(tree, path, base=base)
    except OutsideCheckoutError as error:
        raise StageError(f"{what} ({path}) {error}") from error


def _shown(path: str, relative: str) -> str:
    return str(Path(path, relative))
