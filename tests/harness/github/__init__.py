"""A GitHub for tests: its REST API, its webhooks, and its git over smart HTTP, on loopback.

Every request that it gets and every answer and delivery that it gives is checked against GitHub's
published OpenAPI description (api.json, cut out of the npm package @octokit/openapi by cut.py; its
licence is in that file). What is behind it are real git repositories.
"""

from __future__ import annotations

from harness.github.server import FakeGitHub, Fault, fake_github
from harness.github.state import FakePull, FakeRepository, Token

__all__ = ["FakeGitHub", "FakePull", "FakeRepository", "Fault", "Token", "fake_github"]
