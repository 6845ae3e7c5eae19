"""Notices to Slack's incoming webhooks (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks) and to HTTP
end points of the team's own, signed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from seamless import __version__
from seamless.config import Notify, SecretRef
from seamless.errors import ConfigError, ProgrammingError, UnavailableError, UsageError
from seamless.notifiers import words_of
from seamless.notifiers.notices import Notice
from seamless.secretrefs import resolve

SIGNATURE: Final = "Seamless-Signature"
_TIMEOUT_S: Final = 15.0
_NEVER: Final = frozenset({400, 410, 413, 422})  # what no later attempt changes
_SLACK_TEXT_MAX: Final = 2900  # characters; a section of a message takes 3000
_RETRY_MAX_S: Final = 3600.0


class BusyError(UnavailableError):
    """The far end says when it wants to be asked again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SlackNotifier:
    """Implements `notifiers.Notifier`."""

    async def send(self, place: Notify, notice: Notice) -> None:
        if place.slack is None:
            raise ProgrammingError("a place without an incoming webhook came to Slack")
        url = await _secret(place.slack)
        if urlsplit(url).scheme not in ("https", "http") or not urlsplit(url).hostname:
            raise ConfigError(f"the secret {place.slack.reference} is not the URL of an incoming webhook")
        await _post(url, json.dumps(slack_message(notice)).encode(), {}, shown="Slack")


class WebhookNotifier:
    """Implements `notifiers.Notifier`."""

    async def send(self, place: Notify, notice: Notice) -> None:
        if place.webhook is None:
            raise ProgrammingError("a place without an end point came to the webhooks")
        body = json.dumps(webhook_message(notice)).encode()
        signature = sign(await _secret(place.webhook.secret), body, int(time.time()))
        headers = {SIGNATURE: signature, "Seamless-Notice": notice.id}
        await _post(place.webhook.url, body, headers, shown=str(urlsplit(place.webhook.url).hostname))


def slack_message(notice: Notice) -> dict[str, Any]:
    """The title in bold, the rest as it is; nothing of it is taken for Slack's markup or a mention."""
    rest = notice.text.partition("\n")[2].strip("\n")
    title, text = _escaped(notice.title).replace("*", "∗"), _escaped(rest).replace("```", "'''")
    if len(text) > _SLACK_TEXT_MAX:
        text = f"{text[:_SLACK_TEXT_MAX].rpartition('&')[0] or text[:_SLACK_TEXT_MAX]}…"
    blocks = [f"*{title}*", *([f"```{text}```"] if text else [])]
    sections = [{"type": "section", "text": {"type": "mrkdwn", "text": block[:3000]}} for block in blocks]
    return {"text": title, "blocks": sections}


def webhook_message(notice: Notice) -> dict[str, Any]:
    """`id` is the same when a notice comes twice."""
    return {
        "id": notice.id,
        "at": notice.at,
        "kinds": [str(kind) for kind in notice.kinds],
        "title": notice.title,
        "text": notice.text,
        "commands": list(notice.commands),
        "service": notice.service,
        "attributes": dict(notice.attributes),
    }


def sign(secret: str, body: bytes, at: int) -> str:
    """`t=<unix time>,v1=<HMAC-SHA256 of "<t>.<body>", hexadecimal>`: the time keeps old ones from being replayed."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def _secret(ref: SecretRef) -> str:
    return await asyncio.to_thread(resolve, ref)


async def _post(url: str, body: bytes, headers: Mapping[str, str], *, shown: str) -> None:
    """Raises UnavailableError to try again, UsageError for what is never taken. No error tells the URL."""
    import httpx  # here, since it is an eighth of an idle agent's memory

    sent = {"Content-Type": "application/json", "User-Agent": f"seamless/{__version__}", **headers}
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as client:
            async with asyncio.timeout(_TIMEOUT_S):
                async with client.stream("POST", url, content=body, headers=sent) as answer:
                    status, retry_after = answer.status_code, answer.headers.get("Retry-After", "")
                    said = (await anext(answer.aiter_bytes(200), b""))[:200].decode(errors="replace").strip()
    except (httpx.TimeoutException, TimeoutError):
        raise UnavailableError(f"{shown} has not answered for {_TIMEOUT_S:.0f} s") from None
    except httpx.HTTPError as error:
        raise UnavailableError(f"{shown} cannot be reached: {_cause(error)}") from None
    if 200 <= status < 300:
        return
    message = f"{shown} answered {status}" + (f": {' '.join(said.split())}" if said.isprintable() and said else "")
    if status in _NEVER:
        raise UsageError(message, hint="look whether that end point is still there, and takes such messages")
    if retry_after.isascii() and retry_after.isdigit():
        raise BusyError(message, min(float(retry_after), _RETRY_MAX_S))
    raise UnavailableError(message)


def _cause(error: BaseException) -> str:
    """The system's words, such as "Connection refused". The library's may hold the URL, which is a secret."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return words_of(found)
        found = found.__cause__ or found.__context__
    return type(error).__name__
