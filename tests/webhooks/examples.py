"""GitHub's published payloads, as they come over the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from seamless.agent.webhooks.signature import signature_of

SECRET = "the secret of the webhook"


@dataclass(frozen=True)
class Example:
    event: str
    payload: Mapping[str, Any]

    @property
    def action(self) -> str | None:
        return self.payload.get("action")

    @property
    def body(self) -> bytes:
        return json.dumps(self.payload).encode()

    @property
    def form(self) -> bytes:
        """The same in GitHub's other format."""
        return urlencode({"payload": json.dumps(self.payload)}).encode()

    def __str__(self) -> str:
        return f"{self.event} {self.action or self.payload.get('ref') or ''}".strip()


EXAMPLES = [
    Example(line["event"], line["payload"])
    for line in map(json.loads, Path(__file__).with_name("examples.jsonl").read_text(encoding="utf-8").splitlines())
]


def headers_of(event: str, body: bytes, guid: str, *, secret: str = SECRET, **changed: str | None) -> dict[str, str]:
    """What GitHub sends with a body; `changed`: other values, or None for none, by name with underscores."""
    headers: dict[str, str | None] = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/0000000",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-Hub-Signature-256": signature_of(body, secret),
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in headers.items() if value is not None}
