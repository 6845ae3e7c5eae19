"""Requests to GitHub's REST API, made by PyGithub in threads, and what its refusals mean.

PyGithub signs, connects and follows redirects; it is loaded at the first request. It neither waits nor
repeats anything here: who asks decides that.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seamless import __version__
from seamless.forges import RemoteProblem
from seamless.forges.github import GitHubError
from seamless.forges.remotes import printable
from seamless.model import utc_now

if TYPE_CHECKING:
    from github.Requester import Requester

_REST_VERSION: Final = "2022-11-28"
_LIMIT_UNKNOWN_S: Final = 60.0  # what GitHub's documentation asks for when it gives no time itself
_LIMIT_MAX_S: Final = 3600.0  # a primary limit is an hour's; a clock that is wrong asks for no more


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have lower-case names; `body` is None when there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass
class Limits:
    """Until when which token is not to ask again. Shared by all sessions."""

    until: dict[str, float] = field(default_factory=dict)  # token -> time.monotonic()

    def left_s(self, token: str) -> float:
        return max(0.0, self.until.get(token, 0.0) - time.monotonic())

    def limit(self, token: str, seconds: float) -> None:
        self.until[token] = max(self.until.get(token, 0.0), time.monotonic() + seconds)


class Session:
    """One token's requests; one at a time, each in one of `threads`. `host` is shown in messages."""

    def __init__(
        self,
        api_url: str,
        token: str,
        limits: Limits,
        threads: Executor,
        *,
        ca_bundle: Path | None,
        timeout_s: float,
    ) -> None:
        self.host = urlsplit(api_url).netloc
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._limits = limits
        self._threads = threads
        self._ca_bundle = ca_bundle
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._requester: Requester | None = None

    async def ask(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        etag: str | None = None,
        expected: tuple[int, ...] = (),
    ) -> Answer:
        """The answer, when its status is 2xx, 304, or one of `expected`. Raises GitHubError for any other."""
        async with self._turn:
            left_s = self._limits.left_s(self._token)
            if left_s > 0:
                raise _limited(self.host, left_s)
            request = partial(self._request, verb, path, dict(query or {}), body, etag)
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, request)
        if answer.status < 300 or answer.status == 304:
            return answer
        limit_s = limited_s(answer.status, answer.headers, answer.body, time.time())
        if limit_s is not None:
            self._limits.limit(self._token, limit_s)
            raise _limited(self.host, limit_s)
        if answer.status in expected:
            return answer
        raise refusal(self.host, f"{verb} {path}", answer)

    def _request(self, verb: str, path: str, query: dict[str, Any], body: Any, etag: str | None) -> Answer:
        requester = self._requester or self._connect()
        headers = {"Accept": "application/vnd.github+json", **({} if etag is None else {"If-None-Match": etag})}
        try:
            status, answered, text = requester.requestJson(verb, path, query, headers, body)
            return Answer(status, answered, json.loads(text) if text else None)
        except OSError as error:  # all of requests' own are
            why = type(error).__name__
            message = f"{self.host} does not answer ({why})"
            hint = "it is asked again by itself; check the network when it goes on"
            raise GitHubError(message, RemoteProblem.UNREACHABLE, hint=hint) from None
        except ValueError:
            message = f"{self.host} answers with something that is not JSON"
            hint = "is github.api_url the API's own address?"
            raise GitHubError(message, RemoteProblem.OTHER, hint=hint) from None
        except RuntimeError as error:  # a redirect that PyGithub does not follow
            hint = "github.api_url must be the API's own address"
            raise GitHubError(printable(str(error)), RemoteProblem.OTHER, hint=hint) from None

    def _connect(self) -> Requester:
        import github

        made = github.Github(
            auth=github.Auth.Token(self._token),
            base_url=self._api_url,
            timeout=round(self._timeout_s),
            user_agent=f"seamless/{__version__}",
            verify=True if self._ca_bundle is None else str(self._ca_bundle),
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
            api_version=_REST_VERSION,
        )
        self._requester = made.requester
        return made.requester


def limited_s(status: int, headers: Mapping[str, str], body: Any, now: float) -> float | None:
    """Seconds until GitHub may be asked again; None when the answer is no rate limit. `now` is Unix time.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
    """
    if status not in (403, 429):
        return None
    retry_after = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return min(max(float(retry_after), 1.0), _LIMIT_MAX_S)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"[0-9]{1,12}", reset):
        return min(max(float(reset) - now, 1.0), _LIMIT_MAX_S)
    if status == 429 or "rate limit" in message_of(body).lower():
        return _LIMIT_UNKNOWN_S
    return None


def message_of(body: Any) -> str:
    """What GitHub says about an error, in one line that can be shown."""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors")
    texts = [str(body.get("message", ""))]
    for error in errors if isinstance(errors, list) else ():
        texts.append(str(error.get("message", "")) if isinstance(error, dict) else str(error))
    return printable(": ".join(text for text in texts if text))


def _limited(host: str, seconds: float) -> GitHubError:
    again_at = utc_now() + timedelta(seconds=seconds)  # the message is kept, and shown later
    message = f"{host} limits how often this token asks: again at {again_at:%H:%M:%S} UTC"
    return GitHubError(message, RemoteProblem.LIMITED, retry_after_s=seconds, hint="it goes on by itself")


def refusal(host: str, request: str, answer: Answer) -> GitHubError:
    """The error for an answer that is no success."""
    said = message_of(answer.body)
    quoted = f" ({said})" if said else ""
    match answer.status:
        case 401:
            message = f"{host} refuses the token: it is expired, revoked or mistyped{quoted}"
            return GitHubError(message, RemoteProblem.REFUSED, hint="seamless login stores a new one")
        case 403:
            needed = printable(answer.headers.get("x-accepted-github-permissions", ""))
            hint = f"give the token this permission: {needed}" if needed else "check the token's permissions"
            return GitHubError(f"{host}: the token may not {request}{quoted}", RemoteProblem.REFUSED, hint=hint)
        case 404 | 410:
            message = f"{host}: {request}: not there, or hidden from this token{quoted}"
            hint = "check the service's repo, and which repositories the token was given"
            return GitHubError(message, RemoteProblem.NOT_FOUND, hint=hint)
        case status if status >= 500:
            message = f"{host} answers {status}{quoted}"
            hint = "it is asked again by itself; see https://www.githubstatus.com"
            return GitHubError(message, RemoteProblem.UNREACHABLE, hint=hint)
        case status:
            return GitHubError(f"{host}: {request}: answered {status}{quoted}", RemoteProblem.OTHER)
