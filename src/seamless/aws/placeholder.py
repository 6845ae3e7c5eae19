"""What a service runs until its first deployment: a container that answers its port and health path with 200.

So the stack can become stable before there is an image, and the first deployment has something to roll back to.
The container carries a label; a deployment that finds it takes away what only the placeholder needs.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

LABEL: Final = "io.seamless.placeholder"
_ROOT: Final = "/tmp/www"


def command(port: int | None, health: str) -> list[str]:
    """For busybox: serves one page at / and at the health path; without a port it only waits."""
    if port is None:
        return ["sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait; done"]
    page = _ROOT + posixpath.normpath("/" + unquote(urlsplit(health).path).lstrip("/"))
    if health == "" or health.endswith("/") or page == f"{_ROOT}/":
        page = posixpath.join(page, "index.html")
    folder = posixpath.dirname(page)
    words = "This service waits for its first deployment by Seamless."
    return [
        "sh",
        "-c",
        f"mkdir -p {shlex.quote(folder)} && echo {shlex.quote(words)} | tee {_ROOT}/index.html > {shlex.quote(page)}"
        f" && exec httpd -f -p {port} -h {_ROOT}",
    ]


def without_placeholder(container: Mapping[str, Any]) -> dict[str, Any]:
    """A container definition as DescribeTaskDefinition gives it, without what made it the placeholder.

    Of a container that is none it is an equal copy. The image is left to the caller.
    """
    labels = dict(container.get("dockerLabels") or {})
    if labels.pop(LABEL, None) is None:
        return dict(container)
    rest = {key: value for key, value in container.items() if key not in ("command", "dockerLabels")}
    return {**rest, "dockerLabels": labels} if labels else rest
