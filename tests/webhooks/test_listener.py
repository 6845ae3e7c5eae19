"""Deliveries over real HTTP into a real store: what is taken, what is refused, and what is stored of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import httpx
import pytest

from seamless.agent.room import Room
from seamless.agent.store import Delivery, Store
from seamless.agent.watchers import Watchers
from seamless.agent.webhooks.intake import Intake
from seamless.agent.webhooks.listener import BODY_MAX, PATH, WebhookApp
from seamless.agent.webhooks.server import serving
from seamless.config import Address, config_from
from seamless.errors import ConfigError
from seamless.forges.github.events import read_event
from webhooks.examples import EXAMPLES, SECRET, headers_of

OLD_SECRET = "the secret before that one"
PUSH = next(example for example in EXAMPLES if example.event == "push")


class Attentive:
    """In the place of the watchers: `told` is what they would look into."""

    def __init__(self) -> None:
        self.told: list[Delivery] = []
        self.knows = True

    async def tell(self, deliveries: Sequence[Delivery]) -> list[int]:
        self.told += deliveries
        return [] if self.knows else [delivery.id for delivery in deliveries]


@dataclass
class Post:
    """The listener as a sender sees it, and what is behind it."""

    url: str
    client: httpx.AsyncClient
    store: Store
    watchers: Attentive
    intake: Intake

    async def send(self, body: bytes, event: str = "push", guid: str = "g-1", **changed: Any) -> int:
        headers = headers_of(event, body, guid, **changed)
        answer = await self.client.post(self.url + PATH, content=body, headers=headers)
        await self.intake.settle()
        return answer.status_code

    async def stored(self) -> list[str]:
        return [delivery.guid for delivery in reversed(await self.store.deliveries.newest())]


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("OLD_HOOK", OLD_SECRET)


def play(folder: Path, body: Callable[[Post], Awaitable[None]], *, least: int = 0, rotating: bool = False) -> None:
    asyncio.run(_play(folder, body, least=least, rotating=rotating))


async def _play(folder: Path, body: Callable[[Post], Awaitable[None]], *, least: int, rotating: bool) -> None:
    async with _serving(folder, least=least, rotating=rotating) as post:
        await body(post)


@asynccontextmanager
async def _serving(folder: Path, *, least: int, rotating: bool) -> AsyncIterator[Post]:
    webhooks: dict[str, Any] = {"listen": "127.0.0.1:8787", "secret": {"env": "HOOK"}}
    if rotating:
        webhooks["previous_secret"] = {"env": "OLD_HOOK"}
    config = config_from({"agent": {"webhooks": webhooks}}, folder / "seamless.toml")
    store = await Store.open(folder / "seamless.db")
    try:
        watchers = Attentive()
        room = Room({"the data directory": folder}, lambda: least)
        intake = Intake(store, cast("Watchers", watchers), lambda: config, room)
        async with (
            serving(WebhookApp(intake), Address("127.0.0.1", 0)) as port,
            httpx.AsyncClient(trust_env=False, timeout=30) as client,
        ):
            yield Post(f"http://127.0.0.1:{port}", client, store, watchers, intake)
    finally:
        await store.close()


def test_every_example_is_taken_in_both_formats_and_once(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        for number, example in enumerate(EXAMPLES):
            first, form = f"json-{number}", f"form-{number}"
            assert await post.send(example.body, example.event, first) == 202
            assert await post.send(example.body, example.event, first) == 200
            kind = {"Content_Type": "application/x-www-form-urlencoded; charset=utf-8"}
            assert await post.send(example.form, example.event, form, **kind) == 202
        guids = [f"{kind}-{number}" for number in range(len(EXAMPLES)) for kind in ("json", "form")]
        assert await post.stored() == guids
        asking = [one for one in EXAMPLES if read_event(one.event, one.payload).asks for _ in range(2)]
        assert {one.event for one in asking} == {"push", "pull_request", "pull_request_review", "check_suite", "status"}
        assert [one.told for one in post.watchers.told] == [read_event(one.event, one.payload) for one in asking]
        pending = await post.store.deliveries.pending()
        assert [one.guid for one in pending] == [one.guid for one in post.watchers.told]

    play(tmp_path, body)


def test_a_replay_under_another_guid_is_told_to_nobody(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        assert await post.send(PUSH.body, guid="g-1") == 202
        assert await post.send(PUSH.body, guid="g-2") == 200
        assert await post.send(PUSH.body, guid="g-1") == 200
        assert len(post.watchers.told) == 1
        delivery = await post.store.deliveries.by_guid("g-1")
        assert delivery is not None
        assert delivery.copies == 1  # GitHub's redelivery has the GUID of the first

    play(tmp_path, body)


def test_two_secrets_sign_while_one_follows_the_other(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        assert await post.send(PUSH.body, secret=OLD_SECRET) == 202
        other = EXAMPLES[-1]
        assert await post.send(other.body, other.event, "g-2") == 202
        assert await post.send(PUSH.form, guid="g-3", secret="neither of the two") == 401

    play(tmp_path, body, rotating=True)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"secret": "another secret"}, 401),
        ({"secret": OLD_SECRET}, 401),
        ({"X_Hub_Signature_256": None}, 401),
        ({"X_Hub_Signature_256": "sha256=" + "0" * 64}, 401),
        ({"X_Hub_Signature_256": "sha1=" + "0" * 40}, 401),
        ({"X_Hub_Signature_256": "sha256=\u00e9"}, 401),
        ({"X_GitHub_Event": None}, 400),
        ({"X_GitHub_Event": "Push!"}, 400),
        ({"X_GitHub_Delivery": None}, 400),
        ({"X_GitHub_Delivery": "a b"}, 400),
        ({"X_GitHub_Delivery": "x" * 101}, 400),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": None}, 415),
    ],
)
def test_what_is_not_signed_or_not_whole_is_refused_and_not_stored(
    tmp_path: Path, changed: dict[str, Any], status: int
) -> None:
    async def body(post: Post) -> None:
        if (signature := changed.get("X_Hub_Signature_256")) is not None:
            changed["X_Hub_Signature_256"] = signature.encode()
        assert await post.send(PUSH.body, **changed) == status
        assert await post.stored() == []

    play(tmp_path, body)


def test_what_is_signed_and_no_payload_is_refused(tmp_path: Path) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}

    async def body(post: Post) -> None:
        for content in (b"", b"{", b'"x"', b"[]", b"\xff", b"[" * 100_000, b'{"ref": "main"}'):
            assert await post.send(content) == 400
        for content in (b"", b"payload=", b"payload=%7B", b"other=%7B%7D", b"payload=%7B%7D&payload=%7B%7D", b"\xff"):
            assert await post.send(content, **form) == 400
        assert await post.send(urlencode({"payload": "{}"}).encode(), "star", **form) == 202
        assert await post.stored() == ["g-1"]
        assert (await post.client.get(post.url + PATH)).status_code == 405
        assert (await post.client.post(f"{post.url}/v1/runs")).status_code == 404

    play(tmp_path, body)


def _padded(size: int) -> bytes:
    """A push of exactly this many bytes."""
    payload = {**PUSH.payload, "padding": ""}
    return json.dumps({**payload, "padding": "x" * (size - len(json.dumps(payload)))}).encode()


def test_25_mib_are_taken_and_more_is_refused_on_the_way(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        largest = _padded(BODY_MAX)
        assert len(largest) == 25 * 2**20
        assert await post.send(largest) == 202
        assert await post.stored() == ["g-1"]
        larger = largest + b" " * 2**20

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(larger), 2**16):
                yield larger[at : at + 2**16]

        headers = headers_of("push", larger, "g-2")
        assert (await post.client.post(post.url + PATH, content=chunks(), headers=headers)).status_code == 413
        assert await post.send(larger, guid="g-3") == 413
        assert await post.stored() == ["g-1"]
        assert await post.send(EXAMPLES[-1].body, EXAMPLES[-1].event, "g-4") == 202  # and it serves on

    play(tmp_path, body)


def test_what_announces_far_too_much_is_not_read_at_all(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(post.url).port)
        head = {**headers_of("push", b"", "g-1"), "Host": "x", "Content-Length": str(2**40)}
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    play(tmp_path, body)


def test_a_sender_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(post.url).port)
            head = {**headers_of("push", b"", "g-1"), "Host": "x", "Content-Length": str(8 * 2**20)}
            lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
            writer.write("\r\n".join(lines).encode() + b"x" * 4 * 2**20)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert await post.send(_padded(BODY_MAX)) == 202  # nothing of the buffer was lost
        assert await post.stored() == ["g-1"]

    play(tmp_path, body)


def test_without_room_on_the_disk_the_answer_is_503_and_says_nothing_of_the_host(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        headers = headers_of("push", PUSH.body, "g-1")
        answer = await post.client.post(post.url + PATH, content=PUSH.body, headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert str(tmp_path) not in answer.text
        assert await post.stored() == []

    play(tmp_path, body, least=2**62)


def test_a_secret_that_cannot_be_read_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK")

    async def body(post: Post) -> None:
        assert await post.send(PUSH.body) == 503
        os.environ["HOOK"] = SECRET
        assert await post.send(PUSH.body) == 202

    play(tmp_path, body)


def test_what_was_stored_is_told_again_until_it_was_looked_into(tmp_path: Path) -> None:
    async def first(post: Post) -> None:
        assert await post.send(PUSH.body) == 202

    async def second(post: Post) -> None:
        await post.intake.tell_all()
        (delivery,) = post.watchers.told
        assert (delivery.guid, delivery.told.ref) == ("g-1", PUSH.payload["ref"])
        await post.intake.attended([delivery.id])
        await post.intake.tell_all()
        assert len(post.watchers.told) == 1
        assert (await post.store.deliveries.newest())[0].outcome == "looked into"

    play(tmp_path, first)
    play(tmp_path, second)


def test_what_is_nobodys_is_finished_at_once(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        post.watchers.knows = False
        assert await post.send(PUSH.body) == 202
        assert await post.store.deliveries.pending() == []
        await post.store.deliveries.forget(older_than_days=-1)
        assert await post.stored() == []

    play(tmp_path, body)


def test_an_address_that_is_taken_is_told(tmp_path: Path) -> None:
    async def body(post: Post) -> None:
        port = httpx.URL(post.url).port
        assert port is not None
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be listened at: address already in use"):
            async with serving(WebhookApp(post.intake), Address("127.0.0.1", port)):
                raise AssertionError

    play(tmp_path, body)
