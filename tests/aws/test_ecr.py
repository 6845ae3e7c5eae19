"""Images in ECR: repositories as moto keeps them, and real pushes to a real registry behind ECR's token."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto.ecr.responses import ECRResponse

from harness.aws import ACCOUNT, REGION, Moto, Refusal
from harness.engine import docker
from harness.registry import LocalRegistry, local_registry
from seamless.agent.registries import Registries
from seamless.aws.ecr import Ecr, region_of
from seamless.aws.errors import AwsError
from seamless.aws.sessions import Clouds
from seamless.config import Aws, Config, Parameters, config_from
from seamless.errors import RefusedError, UnavailableError
from seamless.model import DigestKind, Image, ImageRef, Trust
from seamless.stages.registry import push_image

pytestmark = pytest.mark.fake

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


def config(access: Aws, **service: Any) -> Config:
    own = {"repo": "https://github.com/acme/web", **service}
    environments = {"production": {"target": "ecs", "cluster": "prod"}}
    aws = access.model_dump(exclude_none=True)
    return config_from({"aws": aws, "environments": environments, "services": {"web": own}}, Path("/seamless.toml"))


def parameters(known: Config) -> Parameters:
    return known.services["web"]


def test_a_service_of_ecs_has_ecr_unless_it_names_a_registry(clouds: Clouds, access: Aws) -> None:
    known = config(access)
    registries = Registries(lambda: known, Ecr(clouds))

    async def prefix(**service: Any) -> str | None:
        found = await registries.of_service(parameters(config(access, **service)))
        return None if found is None else found.prefix

    assert asyncio.run(prefix()) == HOST
    assert asyncio.run(prefix(registry="ghcr.io/acme")) == "ghcr.io/acme"
    docker_only = config_from({"services": {"web": {"repo": "/srv/web"}}}, Path("/seamless.toml"))
    assert asyncio.run(Registries(lambda: docker_only, Ecr(clouds)).of_service(parameters(docker_only))) is None


def test_a_repository_is_made_at_the_first_push_and_left_alone_then(moto: Moto, clouds: Clouds, access: Aws) -> None:
    known = config(access, registry=f"{HOST}/team")
    registries = Registries(lambda: known, Ecr(clouds))

    async def ready() -> tuple[bool, str]:
        found = await registries.of_service(parameters(known))
        assert found is not None
        return await registries.ready(found, "web", ["abc", "abc-7"], since=datetime.now(UTC) + timedelta(hours=1))

    assert asyncio.run(ready()) == (True, "abc")
    (made,) = moto.called("CreateRepository")
    assert (made["repositoryName"], made["imageTagMutability"]) == ("team/web", "IMMUTABLE")
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    (policy,) = moto.called("PutLifecyclePolicy")
    selections = [rule["selection"] for rule in json.loads(policy["lifecyclePolicyText"])["rules"]]
    assert [one["tagStatus"] for one in selections] == ["untagged"], "what has a tag may be what runs"
    assert asyncio.run(ready()) == (False, "abc")
    push(moto, "team/web", 1, "abc")
    assert asyncio.run(ready()) == (False, "abc-7")
    assert len(moto.called("CreateRepository")) == len(moto.called("PutLifecyclePolicy")) == 1


def push(moto: Moto, repository: str, number: int, *tags: str) -> str:
    """An image with these tags; its digest."""
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    layers = [{"digest": f"sha256:{number:064x}"}]  # of which moto makes the digest
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": layers})
    for tag in tags:
        pushed = moto.client("ecr").put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)
    return str(pushed["image"]["imageId"]["imageDigest"])


def test_images_are_deleted_by_tag(moto: Moto, clouds: Clouds, access: Aws) -> None:
    known = config(access, registry=f"{HOST}/team")
    registries = Registries(lambda: known, Ecr(clouds))
    moto.client("ecr").create_repository(repositoryName="team/web")
    first = push(moto, "team/web", 1, "aaa", "aaa-7", "v1.0-by-hand")
    again = push(moto, "team/web", 2, "bbb")

    def image(tag: str, digest: str, repository: str = f"{HOST}/team/web") -> Image:
        ref = ImageRef(digest, DigestKind.MANIFEST, repository)
        return Image(1, "web", "a" * 40, ref, tag, "web-1", "key", True, True, datetime.now(UTC), None)

    def tags() -> list[str]:
        found = moto.client("ecr").list_images(repositoryName="team/web")["imageIds"]
        return sorted(one["imageTag"] for one in found)

    asyncio.run(registries.delete([image("aaa", first), image("aaa-7", first)]))
    assert tags() == ["bbb", "v1.0-by-hand"]
    asyncio.run(registries.delete([image("aaa", first)]))  # gone already
    asyncio.run(registries.delete([image("bbb", first)]))  # another image's by now
    assert tags() == ["bbb", "v1.0-by-hand"]
    asyncio.run(registries.delete([image("bbb", again)]))
    assert tags() == ["v1.0-by-hand"]
    asyncio.run(registries.delete([image("aaa", first, f"{HOST}/team/other")]))  # not even its repository is there
    third = push(moto, "team/web", 3, "ccc")
    moto.refuse("BatchDeleteImage", Refusal("AccessDeniedException"))
    with pytest.raises(RefusedError, match="ecr:BatchDeleteImage") as refused:
        asyncio.run(registries.delete([image("ccc", third)]))
    assert refused.value.hint is not None
    moto.refuse("DescribeImages", *[Refusal("ServerException", status=500)] * 6)
    with pytest.raises(UnavailableError):
        asyncio.run(registries.delete([image("ccc", third)]))
    assert tags() == ["ccc", "v1.0-by-hand"]


def test_a_repository_that_was_made_by_a_run_that_died_gets_its_lifecycle_policy(
    moto: Moto, clouds: Clouds, access: Aws
) -> None:
    ecr, begun = Ecr(clouds), datetime.now(UTC)
    moto.refuse("PutLifecyclePolicy", Refusal("InvalidParameterException"))
    with pytest.raises(AwsError):
        asyncio.run(ecr.ensure(access, "web", begun))
    assert asyncio.run(ecr.ensure(access, "web", begun)) is False
    assert "untagged" in moto.client("ecr").get_lifecycle_policy(repositoryName="web")["lifecyclePolicyText"]


def authorize(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Has moto answer GetAuthorizationToken with something else than its own words, which are of 2015."""
    original = ECRResponse.get_authorization_token

    def otherwise(self: Any) -> Any:
        answer: Any = original(self)
        answer.result["authorizationData"][0].update(changes)
        return answer

    monkeypatch.setattr(ECRResponse, "get_authorization_token", otherwise)


def test_a_token_is_kept_until_an_hour_before_it_expires(
    moto: Moto, clouds: Clouds, access: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorize(monkeypatch, expiresAt=datetime.now(UTC) + timedelta(hours=12))
    ecr = Ecr(clouds)

    async def login() -> str:
        return (await ecr.login(access)).password

    assert asyncio.run(login()) == asyncio.run(login()) == f"{ACCOUNT}-auth-token"
    assert len(moto.called("GetAuthorizationToken")) == 1
    for key, one in ecr._logins.items():
        ecr._logins[key] = dataclasses.replace(one, expires_at=datetime.now(UTC) + timedelta(minutes=59))
    asyncio.run(login())
    assert len(moto.called("GetAuthorizationToken")) == 2
    assert f"{ACCOUNT}-auth-token" not in repr(ecr._logins)


def test_ecr_is_told_by_its_host() -> None:
    assert region_of(HOST) == REGION
    assert region_of("123456789012.dkr-ecr.us-east-1.on.aws") == "us-east-1"
    assert [region_of(host) for host in ("ghcr.io", "public.ecr.aws", f"{HOST}.evil.example", "127.0.0.1:5000")] == [
        None
    ] * 4


def test_a_stranger_gets_no_token(moto: Moto, clouds: Clouds, access: Aws) -> None:
    known = config(access)
    assert asyncio.run(Registries(lambda: known, Ecr(clouds)).auth(Trust.UNTRUSTED, HOST)) == {}
    assert moto.called("GetAuthorizationToken") == []


def test_ecr_that_does_not_answer_is_no_empty_registry(moto: Moto, clouds: Clouds, access: Aws) -> None:
    moto.refuse("GetAuthorizationToken", *[Refusal("ServerException", status=500)] * 6)
    known = config(access)
    with pytest.raises(UnavailableError, match="ecr:GetAuthorizationToken"):
        asyncio.run(Registries(lambda: known, Ecr(clouds)).of_service(parameters(known)))


@pytest.fixture
def behind_ecr(tmp_path: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRegistry]:
    """A real registry, which moto's ECR names as its own, and which takes moto's token."""
    with local_registry(tmp_path / "registry") as registry:
        authorize(monkeypatch, proxyEndpoint=f"http://{registry.host}")
        yield registry


@pytest.mark.engine
def test_an_image_is_pushed_with_ecrs_token_and_named_by_the_digest_of_the_push(
    behind_ecr: LocalRegistry, clouds: Clouds, access: Aws, tmp_path: Path, busybox_image: str
) -> None:
    known = config(access)
    registries = Registries(lambda: known, Ecr(clouds))
    spool = tmp_path / "out"
    spool.touch()

    async def main() -> tuple[ImageRef, Any, Any]:
        found = await registries.of_service(parameters(known))
        assert found is not None
        assert found.prefix == behind_ecr.host
        made, tag = await registries.ready(found, "web", ["abc"], since=datetime.now(UTC))
        assert made
        repository = f"{found.prefix}/web"
        docker("tag", busybox_image, f"{repository}:{tag}")
        auth = await registries.auth(Trust.TRUSTED, found.host)
        ref = await push_image(repository, tag, spool=spool, auth=auth, work_dir=tmp_path, timeout_s=60)
        gone = ImageRef(f"sha256:{'0' * 64}", DigestKind.MANIFEST, repository)
        return ref, await registries.platforms(ref), await registries.platforms(gone)

    ref, platforms, gone = asyncio.run(main())
    docker("image", "rm", f"{behind_ecr.host}/web:abc")
    assert ref.kind is DigestKind.MANIFEST
    architecture = docker("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", busybox_image).strip()
    assert platforms == [architecture]
    assert gone is None
