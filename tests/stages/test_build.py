"""Builds with the real BuildKit, pushes to a real registry."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.registry import LocalRegistry
from seamless.config import Build
from seamless.errors import StageError
from seamless.model import DigestKind, ImageRef, Trust
from seamless.stages.build import (
    BuildPlan,
    BuiltImage,
    build_arguments,
    build_image,
    build_key,
    clear_build,
    find_built,
    plan_build,
)
from seamless.stages.registry import Credentials, image_available, registry_host

from .conftest import TimeLimit, WriteTree, docker, inspect, until

COMMIT = "a" * 40


def plan(tree: Path, build: Mapping[str, Any] | None = None, **changes: Any) -> BuildPlan:
    given: dict[str, Any] = {
        "service": "payment",
        "commit": COMMIT,
        "run": "payment-7",
        "number": 7,
        "attempt": 1,
        "trust": Trust.TRUSTED,
        "tree": tree,
        "path": "",
        "build": Build.model_validate(build or {}),
        "registry": None,
        "installation": "0badcafe",
    }
    return plan_build(**{**given, **changes})


def perform(
    planned: BuildPlan,
    spool: Path,
    *,
    secrets: Mapping[str, str] | None = None,
    auth: Mapping[str, Credentials] | None = None,
    timeout_s: float = 60,
) -> BuiltImage:
    work = spool.parent / "work"
    built = asyncio.run(
        build_image(
            planned, spool=spool, secrets=secrets or {}, registry_auth=auth or {}, work_dir=work, timeout_s=timeout_s
        )
    )
    assert list(work.glob("**/*")) == [], "secrets or credentials were left in the work folder"
    return built


class TestPlan:
    def test_the_tag_tells_commit_rebuild_and_trust(self, write_tree: WriteTree) -> None:
        tree = write_tree({"Dockerfile": "FROM scratch\n"})
        assert plan(tree).named == f"seamless-0badcafe/payment:{COMMIT}"
        assert plan(tree, rebuild=True).tag == f"{COMMIT}-7"
        assert plan(tree, trust=Trust.REPOSITORY, rebuild=True).tag == "untrusted-payment-7"
        assert plan(tree, registry="ghcr.io/acme").named == f"ghcr.io/acme/payment:{COMMIT}"

    def test_paths_count_from_the_services_folder(self, write_tree: WriteTree) -> None:
        tree = write_tree({"services/pay/docker/Dockerfile": "FROM scratch\n", "services/pay/src/x": ""})
        planned = plan(tree, {"dockerfile": "docker/Dockerfile", "context": "src"}, path="services/pay")
        assert planned.dockerfile == tree / "services/pay/docker/Dockerfile"
        assert planned.context == tree / "services/pay/src"

    def test_what_is_missing_is_named_with_its_place(self, write_tree: WriteTree) -> None:
        tree = write_tree({"api/x": ""})
        with pytest.raises(StageError, match="no file api/Dockerfile to build from") as error:
            plan(tree, path="api")
        assert error.value.hint is not None
        with pytest.raises(StageError, match="no folder api/src"):
            plan(tree, {"context": "src"}, path="api")

    @pytest.mark.parametrize("name", ["Dockerfile", "src"])
    def test_a_link_out_of_the_checkout_is_refused(self, write_tree: WriteTree, tmp_path: Path, name: str) -> None:
        tree = write_tree({"a/x": ""})
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "Dockerfile").write_text("FROM scratch\n")
        (tree / "Dockerfile").symlink_to("../secret/Dockerfile" if name == "Dockerfile" else "a/x")
        (tree / "src").symlink_to(tmp_path / "secret")
        with pytest.raises(StageError, match=f"{name}\\) leads out of the checkout, by a symbolic link"):
            plan(tree, {"context": "src" if name == "src" else "."})

    def test_a_link_inside_is_followed(self, write_tree: WriteTree) -> None:
        tree = write_tree({"docker/prod": "FROM scratch\n"})
        (tree / "Dockerfile").symlink_to("docker/prod")
        assert plan(tree).dockerfile == tree / "docker/prod"

    @pytest.mark.parametrize(
        ("build", "path"),
        [
            ({"args": {"A": "1"}}, ""),
            ({"target": "x"}, ""),
            ({"platform": "linux/arm64"}, ""),
            ({"context": "src"}, ""),
            ({"dockerfile": "D"}, ""),
            ({"secrets": {"npm": {"env": "X"}}}, ""),
            ({}, "api"),
        ],
    )
    def test_the_key_changes_with_every_parameter(self, build: dict[str, Any], path: str) -> None:
        assert build_key(Build.model_validate(build), path) != build_key(Build(), "")

    def test_the_key_knows_secrets_by_name_only(self) -> None:
        one, other = ({"secrets": {"npm": {"env": name}}} for name in ("X", "Y"))
        assert build_key(Build.model_validate(one), "") == build_key(Build.model_validate(other), "")

    def test_a_front_end_needs_trust(self, write_tree: WriteTree) -> None:
        tree = write_tree({"Dockerfile": "# escape=\\\n# syntax = evil.example/frontend:1\nFROM scratch\n"})
        plan(tree)
        with pytest.raises(StageError, match="syntax=evil"):
            plan(tree, trust=Trust.REPOSITORY)
        write_tree({"Dockerfile": "# syntax=docker/dockerfile:1.7\nFROM scratch\n# syntax=evil\n"})
        plan(tree, trust=Trust.REPOSITORY)

    def test_no_argument_undoes_the_cache_namespace(self, write_tree: WriteTree) -> None:
        tree = write_tree({"Dockerfile": "FROM scratch\n"})
        arguments = build_arguments(plan(tree, {"args": {"BUILDKIT_CACHE_MOUNT_NS": "other"}}))
        given = [each for each in arguments if each.startswith("BUILDKIT_CACHE_MOUNT_NS=")]
        assert given[-1] == "BUILDKIT_CACHE_MOUNT_NS=seamless-0badcafe-payment-trusted"


MULTI_STAGE = """
FROM {base} AS make
ARG WHO
RUN --mount=type=secret,id=token test "$(md5sum </run/secrets/token)" = "{md5}  -" && echo "hello $WHO" >/made
RUN --mount=type=cache,target=/cache echo "$WHO" >>/cache/seen && cp /cache/seen /seen
FROM {base} AS other
RUN exit 9
FROM {base} AS final
COPY --from=make /made /seen /
CMD ["cat", "/made", "/seen"]
"""


@pytest.mark.engine
class TestBuild:
    def test_a_multi_stage_dockerfile_with_secret_and_cache(
        self, base_image: str, installation: str, write_tree: WriteTree, spool: Path
    ) -> None:
        tree = write_tree(
            {"Dockerfile": MULTI_STAGE.format(base=base_image, md5=hashlib.md5(b"s3cret, value").hexdigest())}
        )

        def build(who: str, **changes: Any) -> str:
            parameters = {"args": {"WHO": who}, "target": "final", "secrets": {"token": {"env": "X"}}}
            planned = plan(tree, parameters, installation=installation, **changes)
            built = perform(planned, spool, secrets={"token": "s3cret, value"})
            assert built.ref == ImageRef(built.image_id, DigestKind.IMAGE_ID)
            return docker("run", "--rm", built.ref.pullable)

        assert build("me") == "hello me\nme"
        assert build("you", run="payment-8") == "hello you\nme\nyou"
        # Not trusted: the same mount, and none of what trusted builds left in it.
        assert build("they", run="payment-9", trust=Trust.REPOSITORY) == "hello they\nthey"
        assert build("them", run="cart-1", service="cart") == "hello them\nthem"
        assert "s3cret" not in spool.read_text()

    def test_an_attempt_builds_once(
        self, base_image: str, installation: str, write_tree: WriteTree, spool: Path
    ) -> None:
        tree = write_tree({"Dockerfile": f"FROM {base_image}\nRUN head -c 9 /dev/urandom >/x\n"})
        planned = plan(tree, installation=installation)
        assert asyncio.run(find_built(planned)) is None
        built = perform(planned, spool)
        size = spool.stat().st_size
        assert perform(planned, spool) == built
        assert spool.stat().st_size == size
        labels = inspect(built.image_id)["Config"]["Labels"]
        assert labels["io.seamless.build"] == f"{installation}/payment-7/1"
        assert not [name for name in labels if name == "io.seamless.installation"]

        again = plan(tree, installation=installation, attempt=2)
        assert asyncio.run(find_built(again)) is None
        assert asyncio.run(image_available(built.ref, {}))
        assert not asyncio.run(image_available(ImageRef("sha256:" + "0" * 64, DigestKind.IMAGE_ID), {}))

    @pytest.mark.parametrize(
        ("dockerfile", "reason"),
        [
            ("FROM {base}\nRUN echo out; exit 3\n", "the build failed at step [2/2] RUN echo out; exit 3: exit code 3"),
            ("FROM {base}\nCOPY nothere /\n", '"/nothere" not found'),
            ("FROM {base}\nFOO bar\n", "unknown instruction: FOO"),
            ("FROM no-such-host.invalid/x:1\n", "[internal] load metadata for no-such-host.invalid/x:1"),
            ("", "the build failed: "),
        ],
    )
    def test_a_failure_names_step_and_cause(
        self, base_image: str, installation: str, write_tree: WriteTree, spool: Path, dockerfile: str, reason: str
    ) -> None:
        tree = write_tree({"Dockerfile": dockerfile.format(base=base_image)})
        with pytest.raises(StageError) as error:
            perform(plan(tree, installation=installation), spool)
        assert error.value.message.startswith("the build failed")
        assert reason in error.value.message
        assert spool.stat().st_size > 0

    def test_a_missing_secret_is_refused_before_the_build(self, write_tree: WriteTree, spool: Path) -> None:
        tree = write_tree({"Dockerfile": "FROM scratch\n"})
        with pytest.raises(StageError, match="the build secrets token are not there"):
            perform(plan(tree, {"secrets": {"token": {"env": "X"}}}), spool)
        assert spool.stat().st_size == 0

    def test_a_build_ends_with_its_time_and_leaves_no_secret(
        self, base_image: str, installation: str, write_tree: WriteTree, spool: Path, time_limit: TimeLimit
    ) -> None:
        tree = write_tree({"Dockerfile": f"FROM {base_image}\nRUN echo begun; sleep 600\n"})
        planned = plan(tree, {"secrets": {"token": {"env": "X"}}}, installation=installation)
        work = spool.parent / "work"

        async def main() -> None:
            given = {"secrets": {"token": "abc"}, "registry_auth": {}, "work_dir": work}
            building = asyncio.create_task(
                build_image(planned, spool=spool, timeout_s=time_limit.length_s, **given)  # type: ignore[arg-type]
            )
            await until(lambda: re.search(r"\d begun$", spool.read_text(), re.MULTILINE))
            time_limit.run_out()
            await building

        with pytest.raises(StageError, match="timed out after 601s"):
            asyncio.run(main())
        assert not list(work.iterdir())

    def test_what_a_dead_agent_left_is_cleared(self, write_tree: WriteTree, spool: Path) -> None:
        work = spool.parent / "work"
        work.mkdir()
        (work / "secret-0").write_text("s")
        asyncio.run(clear_build(plan(write_tree({"Dockerfile": "FROM scratch\n"})), work))
        assert not work.exists()


@pytest.mark.engine
class TestPush:
    def test_a_push_is_known_by_its_manifest(
        self, base_image: str, installation: str, write_tree: WriteTree, spool: Path, registry: LocalRegistry
    ) -> None:
        tree = write_tree({"Dockerfile": f"FROM {base_image}\nRUN echo {installation} >/x\n"})
        planned = plan(tree, installation=installation, registry=f"{registry.host}/team")
        built = perform(planned, spool, auth=registry.auth)
        assert built.ref.kind is DigestKind.MANIFEST
        assert built.ref.repository == f"{registry.host}/team/payment"
        assert built.ref.digest != built.image_id
        assert perform(planned, spool, auth=registry.auth) == built

        docker("image", "rm", "--force", built.image_id)
        assert asyncio.run(image_available(built.ref, registry.auth))
        unknown = ImageRef("sha256:" + "0" * 64, DigestKind.MANIFEST, built.ref.repository)
        assert not asyncio.run(image_available(unknown, registry.auth))

        # And it is a base that other builds can have, by the same log-in.
        other = write_tree({"Dockerfile": f"FROM {built.ref.pullable}\nRUN test -e /x\n"})
        perform(plan(other, installation=installation, run="cart-1", service="cart"), spool, auth=registry.auth)

    def test_a_push_without_a_log_in_is_not_tried_again(
        self, base_image: str, installation: str, write_tree: WriteTree, spool: Path, registry: LocalRegistry
    ) -> None:
        tree = write_tree({"Dockerfile": f"FROM {base_image}\nRUN echo {installation} >/x\n"})
        planned = plan(tree, installation=installation, registry=f"{registry.host}/team")
        with pytest.raises(StageError, match=r"the push of \S+ failed: ") as error:
            perform(planned, spool)
        assert "no basic auth" in error.value.message
        assert error.value.hint is not None
        assert spool.read_text().count("The push refers to repository") == 1

    def test_a_registry_that_is_down_is_tried_three_times(
        self,
        base_image: str,
        installation: str,
        write_tree: WriteTree,
        spool: Path,
        registry: LocalRegistry,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("seamless.stages.registry._BACK_OFF_S", 0.01)
        registry.process.kill()
        registry.process.wait()
        shutil.rmtree(registry.folder)
        tree = write_tree({"Dockerfile": f"FROM {base_image}\nRUN echo {installation} >/x\n"})
        with pytest.raises(StageError, match="connection refused"):
            perform(plan(tree, installation=installation, registry=f"{registry.host}/team"), spool, auth=registry.auth)
        assert spool.read_text().count("The push refers to repository") == 3

    def test_a_registry_that_stops_answering_in_the_middle_is_given_up_in_time(
        self,
        base_image: str,
        installation: str,
        write_tree: WriteTree,
        spool: Path,
        registry: LocalRegistry,
        time_limit: TimeLimit,
    ) -> None:
        noise = "head -c 30000000 /dev/urandom >/noise"
        tree = write_tree({"Dockerfile": f"FROM {base_image}\nRUN {noise}; echo {installation} >/x\n"})
        planned = plan(tree, installation=installation, registry=f"{registry.host}/team")
        uploads = registry.folder / "data/docker/registry/v2/repositories/team/payment/_uploads"

        async def main() -> None:
            pushing = asyncio.create_task(
                build_image(
                    planned,
                    spool=spool,
                    secrets={},
                    registry_auth=registry.auth,
                    work_dir=spool.parent,
                    timeout_s=time_limit.length_s,
                )
            )
            while not list(uploads.glob("*/data")) and not pushing.done():  # noqa: ASYNC110 - of another program
                await asyncio.sleep(0.005)
            registry.process.send_signal(signal.SIGSTOP)
            time_limit.run_out()
            with pytest.raises(StageError, match=r"the push of \S+ timed out after 601 s"):
                await pushing

        asyncio.run(main())
        assert "digest: sha256" not in spool.read_text()
        registry.process.send_signal(signal.SIGCONT)
        assert perform(planned, spool, auth=registry.auth).ref.kind is DigestKind.MANIFEST


@pytest.mark.engine
@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("RUN --network=host id", True),
        ("RUN --security=insecure id", True),
        ("COPY ../../../../../../etc/hostname /stolen", True),
        ("COPY link /stolen", True),
        ("RUN --mount=type=bind,source=../../..,target=/host test ! -e /host/etc/hostname", False),
        ("RUN --mount=type=secret,id=another test ! -e /run/secrets/another", False),
        ("RUN test ! -e /var/run/docker.sock && ! mount -t tmpfs none /tmp", False),
        ("RUN mknod /disk b 253 0 && ! head -c 1 /disk", False),
        ("RUN env | grep -q SEAMLESS_TEST_HOST && exit 1 || true", False),
    ],
)
def test_a_hostile_dockerfile_reaches_nothing_of_the_host(
    line: str,
    refused: bool,
    base_image: str,
    installation: str,
    write_tree: WriteTree,
    spool: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused, or it finds nothing there: the test in its own line says so."""
    monkeypatch.setenv("SEAMLESS_TEST_HOST", "of the host")
    tree = write_tree({"Dockerfile": f"FROM {base_image}\n{line}\n"})
    (tree / "link").symlink_to("/etc/hostname")
    planned = plan(tree, installation=installation)
    if refused:
        with pytest.raises(StageError, match="the build failed"):
            perform(planned, spool)
    else:
        perform(planned, spool)


def test_the_registry_of_a_repository() -> None:
    hosts = {"acme/api": "docker.io", "api": "docker.io", "localhost/api": "localhost", "[::1]:5000/x": "[::1]:5000"}
    assert {name: registry_host(name) for name in hosts} == hosts
