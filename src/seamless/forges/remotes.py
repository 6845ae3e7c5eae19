"""What people write (URLs, refs, patterns, SHAs), checked before git sees any of it. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from seamless.errors import UsageError
from seamless.forges import Credentials, Repository

COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
SHORT_COMMIT: Final = re.compile(r"[0-9a-fA-F]{4,64}")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_IN_REFS: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//|/\.|\.lock(?:/|$)")
_SCP_LIKE: Final = re.compile(r"(?:[^/@:]+@)?(?:\[[0-9a-fA-F:.%]+\]|[^/@:\[\]]+):(?P<path>.+)")
_LONGEST: Final = 1000


class Transport(StrEnum):
    HTTP = "http"
    SSH = "ssh"
    GIT = "git"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Remote:
    """A parsed repository. `address` is what git gets and what people are shown: it holds no secret."""

    address: str
    transport: Transport
    credentials: Credentials
    username: str | None = field(default=None, repr=False)  # of `password`; may be a token itself
    password: str | None = field(default=None, repr=False)
    origin: str = ""  # http only: scheme, host and port, which alone get the password

    @property
    def key(self) -> str:
        """Names the mirror's folder: the same for whatever credentials."""
        return hashlib.sha256(self.address.encode()).hexdigest()[:20]


def parse(repository: Repository) -> Remote:
    """Raises UsageError for what is no address, or one that could make git run something."""
    url = repository.url
    if not url or len(url) > _LONGEST or _CONTROL.search(url) or url != url.strip():
        raise _refusal(repository, "it is empty, too long, or holds control characters or space around it")
    if url.startswith("-"):
        raise _refusal(repository, "it begins with -")
    if re.match(r"[A-Za-z0-9]+::", url):
        raise _refusal(repository, "remote helpers are not used")
    if url.startswith("/"):
        return Remote(url, Transport.LOCAL, repository.credentials)
    if "://" in url:
        return _parse_url(repository)
    scp_like = _SCP_LIKE.fullmatch(url)
    if scp_like and not scp_like["path"].startswith("-"):
        return Remote(url, Transport.SSH, repository.credentials)
    raise _refusal(repository, "a local repository needs its absolute path")


def _parse_url(repository: Repository) -> Remote:
    try:
        parts = urlsplit(repository.url)
        port = parts.port
    except ValueError:
        raise _refusal(repository, "host or port are malformed") from None
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise _refusal(repository, "a file URL is file:///path")
        return Remote(repository.url, Transport.LOCAL, repository.credentials)
    if parts.scheme not in ("https", "http", "ssh", "git"):
        raise _refusal(repository, f"{parts.scheme} is not one of https, http, ssh, git, file")
    if not parts.hostname or parts.hostname.startswith("-") or (parts.username or "").startswith("-"):
        raise _refusal(repository, "it has no host that can be asked")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    location = host if port is None else f"{host}:{port}"
    if parts.scheme == "ssh":
        user = f"{parts.username}@" if parts.username else ""
        return Remote(_rebuild(parts, user + location), Transport.SSH, repository.credentials)
    if parts.scheme == "git":
        return Remote(_rebuild(parts, location), Transport.GIT, repository.credentials)
    username, password = _http_credentials(parts, repository.credentials)
    return Remote(
        address=_rebuild(parts, location),
        transport=Transport.HTTP,
        credentials=repository.credentials,
        username=username,
        password=password,
        origin=f"{parts.scheme}://{location}",
    )


def _rebuild(parts: SplitResult, location: str) -> str:
    return parts._replace(netloc=location).geturl()


def _http_credentials(parts: SplitResult, credentials: Credentials) -> tuple[str | None, str | None]:
    """The URL's user goes before the configured one, a configured token before the URL's password."""
    username = unquote(parts.username) if parts.username else credentials.username
    if credentials.token is not None:
        password: str | None = credentials.token
    elif parts.username or parts.password:
        password = unquote(parts.password or "")
    else:
        return None, None
    if _CONTROL.search(username + (password or "")):
        raise UsageError("user or token of a repository hold control characters", hint="is there a newline at its end?")
    return username, password


def _refusal(repository: Repository, why: str) -> UsageError:
    return UsageError(
        f"{printable(repository.shown)!r} is not a repository: {why}",
        hint="use an https, http, ssh, git or file URL, git@host:path, or an absolute path",
    )


def check_ref(ref: str) -> None:
    """Raises UsageError unless git takes this as a ref's name, full or short (`git check-ref-format`).

    `a;id` and `a$(id)` are good names: nothing may ever give a ref to a shell.
    """
    bad = (
        not ref
        or len(ref) > _LONGEST
        or ref == "@"
        or ref.startswith(("-", "/", "."))
        or ref.endswith(("/", "."))
        or _NOT_IN_REFS.search(ref)
    )
    if bad:
        raise UsageError(
            f"{printable(ref)!r} is not a name that git takes for a branch, tag or ref",
            hint="give a branch, a tag, a full ref such as refs/pull/17/head, or a commit",
        )


def check_pattern(pattern: str) -> None:
    """Raises UsageError for a pattern that could be an option, or more than one line."""
    if not pattern or len(pattern) > _LONGEST or pattern.startswith("-") or _CONTROL.search(pattern):
        raise UsageError(f"{printable(pattern)!r} is not a pattern for refs", hint="for example refs/heads/*")


def check_commit(commit: str) -> None:
    """Raises UsageError unless it is a full SHA in lower case."""
    if not COMMIT.fullmatch(commit):
        raise UsageError(f"{printable(commit)!r} is not a full commit SHA", hint="resolve it first")


def printable(text: str) -> str:
    """One line of text that can go into a message: at most 200 characters, none that moves a cursor."""
    shown = "".join(character if character.isprintable() else " " for character in text[:200]).strip()
    return shown + "…" if len(text) > 200 else shown
