"""A real repository and a forge with nothing in it yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamless.forges import Repository
from seamless.forges.git import GitForge

from .origins import Origin


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def repository(origin: Origin) -> Repository:
    return Repository(origin.url)


@pytest.fixture
def forge(tmp_path: Path) -> GitForge:
    return GitForge(tmp_path / "data" / "mirrors", low_speed_s=5, timeout_s=60)
