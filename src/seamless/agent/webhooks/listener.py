"""The HTTP side of webhooks: refuses as early as it can, and answers only what is stored.

202 stored    200 was stored before
400 malformed    401 the signature is not ours (nothing is stored)    404, 405 not a webhook
408 too slow    413 more than 25 MiB    415 neither JSON nor a form    503 cannot be stored now: GitHub shows it,
and the next look at the repository finds what it would have told
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from pydantic_core import from_json
from starlette.types import Message, Receive, Scope, Send

from seamless.agent.webhooks.intake import Intake, aside
from seamless.agent.webhooks.signature import is_signed
from seamless.errors import SeamlessError, UnavailableError, UsageError
from seamless.forges.github.events import read_event

PATH: Final = "/webhooks/github"
BODY_MAX: Final = 25 * 2**20  # bytes; GitHub sends nothing larger
_BUFFER_MAX: Final = 64 * 2**20  # bytes of all bodies that are being received
_BODY_WITHIN_S: Final = 30.0
_OVERDRAFT_MAX: Final = 8 * 2**20  # bytes read on past the limit, so that the sender sees the answer and no broken pipe
_COMPLAIN_EVERY_S: Final = 60.0
_GUID: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_EVENT: Final = re.compile(r"[a-z_]{1,100}")
_FORM: Final = "application/x-www-form-urlencoded"
_log = logging.getLogger(__name__)


class _AnswerError(Exception):
    """Ends a request with this answer."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status
        self.what = what


class WebhookApp:
    """An ASGI application of one path."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._buffered = 0
        self._complained_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, what = await self._take(scope, receive)
        except _AnswerError as answer:
            status, what = answer.status, answer.what
        except UsageError as error:
            status, what = 400, error.message
        except SeamlessError as error:  # a full disk, a secret that cannot be read
            self._complain(error.message)
            status, what = 503, "webhooks cannot be taken now; the agent's log says why"
        except Exception:
            _log.exception("a webhook could not be taken")
            status, what = 503, "webhooks cannot be taken now; the agent's log says why"
        await _answer(send, status, what)

    def _complain(self, why: str) -> None:
        """Says it once, not for each of a storm."""
        if time.monotonic() - self._complained_at > _COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            _log.error("webhooks cannot be taken: %s", why)

    async def _take(self, scope: Scope, receive: Receive) -> tuple[int, str]:
        if scope["path"] != PATH:
            raise _AnswerError(404, f"webhooks come to {PATH}")
        if scope["method"] != "POST":
            raise _AnswerError(405, "webhooks are POSTed")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        guid = _header(headers, "x-github-delivery", _GUID)
        event = _header(headers, "x-github-event", _EVENT)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in ("application/json", _FORM):
            raise _AnswerError(415, "a webhook's content type is application/json, or a form")
        signature = headers.get("x-hub-signature-256")
        if signature is None:
            raise _AnswerError(401, "there is no X-Hub-Signature-256: give the webhook its secret")
        await self._intake.require_room()
        body = b""
        try:
            body = await self._receive(headers, receive)
            secrets = await self._intake.secrets()
            if not await aside(body, is_signed, body, signature, secrets):
                raise _AnswerError(401, "the signature is not one of our secret")
            told = read_event(event, await aside(body, _parsed, body, content_type))
            is_new = await self._intake.store(guid, body, told)
        finally:
            self._buffered -= len(body)
        return (202, "stored") if is_new else (200, "stored before")

    async def _receive(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The body. What it takes of the buffer is the caller's to give back."""
        announced = headers.get("content-length", "0")
        if announced.isascii() and announced.isdigit() and int(announced) > BODY_MAX + _OVERDRAFT_MAX:
            raise _AnswerError(413, "larger than 25 MiB")
        chunks: list[bytes] = []
        size = kept = 0
        try:
            async with asyncio.timeout(_BODY_WITHIN_S):
                more = True
                while more and size <= BODY_MAX + _OVERDRAFT_MAX:
                    message: Message = await receive()
                    if message["type"] != "http.request":
                        raise _AnswerError(400, "the sender went away")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    if size <= BODY_MAX:
                        if self._buffered + len(chunk) > _BUFFER_MAX:
                            raise UnavailableError("too much is being sent at once")
                        kept += len(chunk)
                        self._buffered += len(chunk)
                        chunks.append(chunk)
                    else:
                        chunks.clear()
        except TimeoutError:
            self._buffered -= kept
            raise _AnswerError(408, "the body did not come in time") from None
        except BaseException:
            self._buffered -= kept
            raise
        if size > BODY_MAX:
            self._buffered -= kept
            raise _AnswerError(413, "larger than 25 MiB")
        return b"".join(chunks)


def _header(headers: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = headers.get(name, "")
    if not pattern.fullmatch(value):
        raise _AnswerError(400, f"{name} is missing or not what GitHub sends")
    return value


def _parsed(body: bytes, content_type: str) -> Mapping[str, Any]:
    """The payload, of either of GitHub's formats."""
    try:
        if content_type == _FORM:
            (text,) = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"]
            payload = from_json(text)
        else:
            payload = from_json(body)
    except (ValueError, KeyError) as error:
        raise _AnswerError(400, "the payload is not JSON") from error
    if not isinstance(payload, dict):
        raise _AnswerError(400, "the payload is not a JSON object")
    return payload


async def _answer(send: Send, status: int, what: str) -> None:
    body = json.dumps({"message": what}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    if status == 503:
        headers.append((b"retry-after", b"60"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
