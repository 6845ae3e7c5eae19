"""Pulls, from a registry that answers as it is told: a fake one, since what counts is what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seamless.errors import ConfigError
from seamless.executors import ImageMissingError, images
from seamless.executors.docker import DockerExecutor
from seamless.executors.helper_image import is_static
from seamless.executors.images import is_final

from .conftest import Place, import_image, until

pytestmark = pytest.mark.engine


class Registry:
    """Answers every request for a manifest with `status`; without the right login with 401 when there is one."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.login: tuple[str, str] | None = None
        self.status = 404
        self.answering = threading.Event()
        self.answering.set()
        self.manifests_asked = 0

    def answer(self, path: str, authorization: str | None) -> tuple[int, str]:
        if self.login is not None:
            expected = base64.b64encode(":".join(self.login).encode()).decode()
            if authorization != f"Basic {expected}":
                return 401, "UNAUTHORIZED"
        if "/manifests/" not in path:
            return 200, ""
        self.manifests_asked += 1
        self.answering.wait(60)
        return self.status, "MANIFEST_UNKNOWN" if self.status == 404 else "UNAVAILABLE"


@pytest.fixture
def registry() -> Iterator[Registry]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, code = here.answer(self.path, self.headers.get("Authorization"))
            body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here = Registry(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_RETRY_DELAYS_S", (0.01, 0.01))


@pytest.mark.fake
def test_an_image_that_does_not_exist_is_told_in_the_registrys_words(place: Place, registry: Registry) -> None:
    async def body(executor: DockerExecutor) -> None:
        with pytest.raises(ImageMissingError, match=r"team/none:1 cannot be had: .*manifest unknown"):
            await executor.create(place.spec("true", image=f"{registry.host}/team/none:1"))

    place.run(body)


@pytest.mark.fake
def test_a_registry_in_trouble_is_asked_three_times_and_about_a_missing_image_once(
    place: Place, registry: Registry
) -> None:
    async def body(executor: DockerExecutor) -> None:
        once = await _asked(executor, registry)
        registry.status = 503
        assert await _asked(executor, registry) == 3 * once

    place.run(body)


@pytest.mark.fake
def test_all_who_want_an_image_share_one_pull_even_if_the_first_is_cancelled(place: Place, registry: Registry) -> None:
    async def body(executor: DockerExecutor) -> None:
        once = await _asked(executor, registry)
        registry.manifests_asked = 0
        registry.answering.clear()
        asking = [asyncio.create_task(executor.ensure_image(f"{registry.host}/x:1")) for _ in range(5)]
        await until(lambda: registry.manifests_asked > 0)
        asking[0].cancel()
        await asyncio.gather(asking[0], return_exceptions=True)
        registry.answering.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, ImageMissingError) for result in results[1:])
        assert registry.manifests_asked == once

    place.run(body)


@pytest.mark.fake
def test_the_configured_login_is_used_for_its_registry(place: Place, registry: Registry) -> None:
    registry.login = ("ci", "pässword: 1")
    logins = {registry.host: registry.login}

    async def body(executor: DockerExecutor) -> None:
        with pytest.raises(ImageMissingError, match="manifest unknown"):
            await executor.ensure_image(f"{registry.host}/team/app@sha256:{'0' * 64}")

    async def without(executor: DockerExecutor) -> None:
        with pytest.raises(ImageMissingError, match="no basic auth"):
            await executor.ensure_image(f"{registry.host}/team/app:1")

    place.run(body, auth=logins.get)
    place.run(without)


def test_a_name_that_is_none_is_refused(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        for image in ("UPPER/case:1", "https://x/y", "a b"):
            with pytest.raises(ImageMissingError):
                await executor.ensure_image(image)

    place.run(body)


def test_a_helper_image_of_ones_own(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        await executor.remove_paths([])

    place.run(body, helper_image=place.image)
    with pytest.raises(ConfigError, match=r"agent.helper_image 127.0.0.1:1/none cannot be had"):
        place.run(body, helper_image="127.0.0.1:1/none")


def test_a_helper_image_without_the_user_nobody_is_refused_with_these_words(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        raise AssertionError("it was taken")

    files = {"bin/busybox": Path("/bin/busybox").read_bytes(), "etc/passwd": b"root:x:0:0:root:/:/bin/sh\n"}
    image = import_image(files, {f"bin/{name}": "busybox" for name in ("sh", "grep", "ip", "sleep", "su")})
    try:
        with pytest.raises(ConfigError, match=f"{image} cannot be used: .*nobody"):
            place.run(body, helper_image=image)
    finally:
        place.api.remove_image(image, force=True)


@pytest.mark.parametrize(
    ("message", "final"),
    [
        ("manifest for x:1 not found: manifest unknown: manifest unknown", True),
        ("pull access denied for x, repository does not exist or may require 'docker login'", True),
        ("Head https://r/v2/: no basic auth credentials", True),
        ("Get https://r/v2/: dial tcp 10.0.0.1:443: connect: connection refused", False),
        ("Get https://r/v2/: net/http: TLS handshake timeout", False),
        ("received unexpected HTTP status: 503 Service Unavailable", False),
        ("unexpected EOF", False),
    ],
)
def test_what_would_fail_again_is_not_tried_again(message: str, final: bool) -> None:
    assert is_final(message) is final


def test_a_static_program_is_told_from_a_dynamic_one(tmp_path: Path) -> None:
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    assert busybox is not None
    assert is_static(Path(busybox))
    assert not is_static(Path(os.path.realpath("/bin/ls")))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert not is_static(script)


async def _asked(executor: DockerExecutor, registry: Registry) -> int:
    """How often the registry is asked for a manifest by one `ensure_image`, which fails."""
    registry.manifests_asked = 0
    with pytest.raises(ImageMissingError):
        await executor.ensure_image(f"{registry.host}/some/thing:1")
    return registry.manifests_asked
