"""moto for every test here that asks for it, and the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.aws import CREDENTIALS, REGION, Moto, serving
from seamless.aws.sessions import Clouds
from seamless.config import Aws

from .environment_world import World


@pytest.fixture(scope="session")
def _moto_server() -> Iterator[Moto]:
    with serving() as moto:
        yield moto


@pytest.fixture
def moto(_moto_server: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    """An AWS in which there is nothing yet."""
    _moto_server.reset()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    yield _moto_server
    assert _moto_server.troubles == []


@pytest.fixture(scope="session")
def clouds() -> Iterator[Clouds]:
    """One for all tests: a client takes its time to be made."""
    one = Clouds()
    yield one
    one.close()


@pytest.fixture
def access(moto: Moto) -> Aws:
    """`[aws]` that leads to moto."""
    return Aws(region=REGION, endpoint_url=moto.url)


@pytest.fixture
def world(moto: Moto, clouds: Clouds, tmp_path: Path) -> World:
    return World(moto, clouds, tmp_path)
