"""`[agent.webhooks]`: the listener for what GitHub sends by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from seamless.config import values as v
from seamless.config.secret import SecretRef
from seamless.config.table import Table


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP port of this host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """ "[::1]:8787" -> ("::1", 8787)."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


def _address(text: str) -> str:
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError('must be an address and port of this host such as "0.0.0.0:8787" or "[::]:8787"')
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or "@" in text:
        raise ValueError('must be a URL such as "https://ci.acme.example"')
    return text.rstrip("/")


ListenAddress = Annotated[str, v.Words("address:port"), AfterValidator(_address)]
PublicUrl = Annotated[str, v.Words("URL"), AfterValidator(_public_url)]


class Webhooks(Table):
    """The listener for GitHub's webhooks, at `/webhooks/github`. Put a reverse proxy with TLS before it."""

    listen: ListenAddress = Field(description="where it listens; not through a proxy: what GitHub reaches")
    secret: SecretRef = Field(description="signs the deliveries; the same as the webhook's in GitHub")
    previous_secret: SecretRef | None = Field(
        default=None, description="accepted as well, while webhooks change from one secret to the next"
    )
    public_url: v.Maybe[PublicUrl] = Field(
        default=None, description="how GitHub reaches it, without the path; for `seamless webhook create`"
    )
    reconcile_interval: v.Duration = Field(
        default=600.0, description="how often a repository whose webhooks arrive is asked for what they missed"
    )
