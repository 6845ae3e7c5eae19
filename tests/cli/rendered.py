"""What the tests of the rendering share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from seamless.logtext import GLYPHS
from seamless.rendering.runs import Viewer

ANN = Viewer("ann", datetime(2026, 12, 3, 14, 2, 20, tzinfo=UTC), GLYPHS)


def shown(lines: Sequence[Text]) -> str:
    return "\n".join(line.plain for line in lines)


def commit(sha: str, subject: str, author: str, at: str = "2026-11-30T12:00:00+00:00") -> dict[str, Any]:
    return {"commit": sha + "0" * 33, "subject": subject, "author": author, "committed_at": at}


def at(clock: str) -> str:
    return f"2026-12-03T{clock}+00:00"


def peer(service: str, sha: str, source: str = "production") -> dict[str, str]:
    return {"service": service, "commit": sha, "digest": "sha256:1", "source": source}


def service(name: str, **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("head", "staging", "production", "waiting", "last", "red_since", "hold", "problem"))
    return {"service": name, **blank, "running": [], **more}
