"""Which repository of which GitHub a URL names. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

API_URL: Final = "https://api.github.com"

_SCP_LIKE: Final = re.compile(r"(?:[^/@:]+@)?(?P<host>[^/@:]+):(?P<path>[^:]+)")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")


def web_location(api_url: str) -> str:
    """Host (and port) of the repositories that this API is for: "github.com" for https://api.github.com, the API's
    own for GitHub Enterprise Server (https://ghe.acme.example/api/v3)."""
    parts = urlsplit(api_url)
    location = parts.netloc.lower()
    return location.removeprefix("api.") if parts.path in ("", "/") else location


def repository_name(url: str, api_url: str) -> str | None:
    """ "owner/name" of a repository on that API's GitHub, None for a repository that is elsewhere.

    Over http(s) the port must be the API's, and the scheme no weaker; over ssh the host alone counts.
    """
    location = web_location(api_url)
    if "://" not in url:
        match = _SCP_LIKE.fullmatch(url)
        if match is None or match["host"].lower() != _host(location):
            return None
        return _checked(match["path"])
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return None
    match parts.scheme:
        case "https" | "http":
            is_there = host + port == location and parts.scheme >= urlsplit(api_url).scheme
        case "ssh":
            is_there = host == _host(location)
        case _:
            is_there = False
    return _checked(parts.path) if is_there else None


def _host(location: str) -> str:
    return location.rpartition(":")[0] if re.search(r":[0-9]+$", location) else location


def _checked(path: str) -> str | None:
    name = path.strip("/").removesuffix(".git")
    return name if _NAME.fullmatch(name) and name.partition("/")[2] not in (".", "..") else None
