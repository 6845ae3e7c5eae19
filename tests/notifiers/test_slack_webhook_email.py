"""Notices to a local HTTP receiver and a local SMTP server: taken, refused, hanging, gone."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from seamless.config import Notify
from seamless.errors import ConfigError, SeamlessError, UnavailableError, UsageError
from seamless.model import NoticeKind
from seamless.notifiers import Notice, Notifier, http
from seamless.notifiers import email as mail
from seamless.notifiers.email import EmailNotifier
from seamless.notifiers.http import BusyError, SlackNotifier, WebhookNotifier

pytestmark = pytest.mark.fake

NOTICE = Notice(
    "17",
    "2026-11-23T10:00:00+00:00",
    (NoticeKind.FAILURE,),
    "payment-43 failed in unit_test: <b>*no*</b> & exit code 1",
    service="payment",
    lines=("main  9f3c2ab", "last lines of unit_test:", "    ``` @channel <!channel> ✘"),
    commands=("seamless show payment-43",),
    attributes={"event": "failure"},
)


class Receiver(ThreadingHTTPServer):
    """Answers with `status`, or not at all when it is 0."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers, self.released = 200, {"X": "y"}, threading.Event()
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/T0/B0/secret-path"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no failure."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        if self.server.status == 0:
            self.server.released.wait(30)
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"no_service")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def places(receiver: Receiver, tmp_path: Path) -> dict[str, Notify]:
    (tmp_path / "url").write_text(receiver.url)
    (tmp_path / "secret").write_text("a signing secret")
    return {
        "slack": Notify.model_validate({"slack": {"file": tmp_path / "url"}}),
        "webhook": Notify.model_validate({"webhook": {"url": receiver.url, "secret": {"file": tmp_path / "secret"}}}),
    }


NOTIFIERS: dict[str, Notifier] = {"slack": SlackNotifier(), "webhook": WebhookNotifier(), "email": EmailNotifier()}


def send(place: Notify, notice: Notice = NOTICE) -> None:
    asyncio.run(NOTIFIERS[place.kind].send(place, notice))


def test_slack_gets_text_that_is_no_markup_and_mentions_nobody(receiver: Receiver, places: dict[str, Notify]) -> None:
    send(places["slack"])
    ((path, headers, body),) = receiver.seen
    assert path == "/services/T0/B0/secret-path"
    assert headers["Content-Type"] == "application/json"
    message = json.loads(body)
    title, text = (block["text"]["text"] for block in message["blocks"])
    assert title == "*payment-43 failed in unit_test: &lt;b&gt;∗no∗&lt;/b&gt; &amp; exit code 1*"
    assert "seamless show payment-43" in text
    assert text.count("```") == 2
    assert "<!channel>" not in body.decode()


def test_what_is_too_long_for_slack_is_cut(receiver: Receiver, places: dict[str, Notify]) -> None:
    send(places["slack"], Notice("1", NOTICE.at, NOTICE.kinds, "t" * 5000, lines=("&" * 9000,)))
    message = json.loads(receiver.seen[0][2])
    assert all(len(block["text"]["text"]) <= 3000 for block in message["blocks"])


def test_a_webhook_is_signed_with_its_time(receiver: Receiver, places: dict[str, Notify]) -> None:
    send(places["webhook"])
    ((_, headers, body),) = receiver.seen
    signature = dict(part.split("=") for part in headers["Seamless-Signature"].split(","))
    expected = hmac.new(b"a signing secret", f"{signature['t']}.".encode() + body, hashlib.sha256).hexdigest()
    assert signature["v1"] == expected
    told = json.loads(body)
    assert (told["id"], told["kinds"], told["service"]) == ("17", ["failure"], "payment")
    assert told["commands"] == ["seamless show payment-43"]
    assert headers["Seamless-Notice"] == "17"


@pytest.mark.parametrize("kind", ["slack", "webhook"])
@pytest.mark.parametrize(
    ("status", "error"),
    [(400, UsageError), (410, UsageError), (403, UnavailableError), (404, UnavailableError), (500, UnavailableError),
     (302, UnavailableError)],
)  # fmt: skip
def test_what_is_not_taken_is_tried_again_or_never(
    receiver: Receiver, places: dict[str, Notify], kind: str, status: int, error: type[SeamlessError]
) -> None:
    receiver.status = status
    receiver.headers = {"Location": "http://127.0.0.1:1/"}
    with pytest.raises(error, match=rf"answered {status}: no_service") as caught:
        send(places[kind])
    assert type(caught.value) is error
    assert "secret-path" not in f"{caught.value.message} {caught.value.hint}"
    assert len(receiver.seen) == 1, "a redirect was followed"


def test_one_that_is_busy_is_asked_again_when_it_says(receiver: Receiver, places: dict[str, Notify]) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "30"}
    with pytest.raises(BusyError) as caught:
        send(places["slack"])
    assert caught.value.retry_after_s == 30


@pytest.mark.parametrize("kind", ["slack", "webhook"])
def test_one_that_hangs_or_is_gone(
    receiver: Receiver, places: dict[str, Notify], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 0
    monkeypatch.setattr(http, "_TIMEOUT_S", 0.2)
    with pytest.raises(UnavailableError, match="has not answered for"):
        send(places[kind])
    (tmp_path / "url").write_text("http://127.0.0.1:1/secret-path")
    gone = Notify.model_validate({"webhook": {"url": "http://127.0.0.1:1/", "secret": {"file": tmp_path / "secret"}}})
    with pytest.raises(UnavailableError, match="cannot be reached: Connection refused") as caught:
        send(places["slack"] if kind == "slack" else gone)
    assert "secret-path" not in caught.value.message


def test_an_end_point_without_tls_is_told_in_words_of_tls(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec-0123456789")
    url = receiver.url.replace("http:", "https:")
    place = Notify.model_validate({"webhook": {"url": url, "secret": {"file": tmp_path / "secret"}}})
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1 cannot be reached: TLS fails: "):
        send(place)


def test_a_secret_that_is_no_url_is_not_told(places: dict[str, Notify], tmp_path: Path) -> None:
    (tmp_path / "url").write_text("xoxb-a-token")
    with pytest.raises(ConfigError, match="is not the URL of an incoming webhook") as caught:
        send(places["slack"])
    assert "xoxb" not in caught.value.message


class Mail(socketserver.ThreadingTCPServer):
    """A small SMTP server without TLS; `answers` replaces what it says to a verb."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Dialogue)
        self.answers: dict[str, str] = {}
        self.taken: list[tuple[list[str], bytes]] = []
        self.asked, self.released = threading.Event(), threading.Event()

    def place(self, **more: Any) -> Notify:
        port = self.server_address[1]
        table = {"host": "127.0.0.1", "port": port, "tls": "none", "sender": "ci@acme.example", "to": ["a@b.example"]}
        return Notify.model_validate({"email": table | more})


class _Dialogue(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        said, recipients = {"DATA": "354 go on", "QUIT": "221 bye"} | self.server.answers, []
        if said.get("GREETING") == "":
            self.server.asked.set()
            self.server.released.wait(600)
            return
        self.say(said.get("GREETING", "220 ready"))
        while line := self.rfile.readline().decode():
            verb = line[:4].upper()
            if verb == "RCPT":
                recipients.append(line.strip().partition(":")[2].strip("<>"))
            self.say(said.get(verb, "250 ok"))
            if verb == "DATA" and said["DATA"].startswith("354"):
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.taken.append((recipients, b"".join(lines)))
                self.say(said.get("END", "250 taken"))

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def server() -> Iterator[Mail]:
    with Mail() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        thread.start()
        yield one
        one.released.set()
        one.shutdown()
        thread.join()


def test_an_e_mail_tells_all_of_it(server: Mail) -> None:
    send(server.place(to=["a@b.example", "c@d.example"]))
    ((recipients, data),) = server.taken
    assert recipients == ["a@b.example", "c@d.example"]
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert message["Subject"] == "[seamless] payment-43 failed in unit_test: <b>*no*</b> & exit code 1"
    assert message["Message-ID"] == "<17.seamless@acme.example>"
    assert message["From"] == "ci@acme.example"
    body = message.get_body()
    assert body is not None
    assert "    ``` @channel <!channel> ✘" in body.get_content()


def test_a_title_cannot_add_a_header(server: Mail) -> None:
    send(server.place(), Notice("1", NOTICE.at, NOTICE.kinds, "x\r\nBcc: eve@evil.example\r\n\r\nhello"))
    ((recipients, data),) = server.taken
    assert recipients == ["a@b.example"]
    assert email.message_from_bytes(data)["Bcc"] is None


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ({"RCPT": "550 unknown"}, UsageError, "does not take mail for a@b.example"),
        ({"RCPT": "451 later"}, UnavailableError, "does not take mail for a@b.example"),
        ({"MAIL": "553 not you"}, UsageError, "answered 553: not you"),
        ({"END": "554 spam"}, UsageError, "answered 554: spam"),
        ({"END": "452 full"}, UnavailableError, "answered 452: full"),
        ({"GREETING": "421 busy"}, UnavailableError, "answered 421: busy"),
    ],
)
def test_a_server_that_refuses(server: Mail, answers: dict[str, str], error: type[SeamlessError], said: str) -> None:
    server.answers = answers
    with pytest.raises(error, match=said) as caught:
        send(server.place())
    assert type(caught.value) is error


def test_a_server_that_hangs_is_gone_or_has_no_tls(server: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="offers no STARTTLS"):
        send(server.place(tls="starttls"))
    assert server.taken == [], "it was sent in the clear"
    monkeypatch.setattr(mail, "_TIMEOUT_S", 0.2)
    server.answers = {"GREETING": ""}
    with pytest.raises(UnavailableError, match="has not answered for"):
        send(server.place())
    with pytest.raises(UnavailableError, match="Connection refused"):
        send(server.place(port=1))


def test_a_server_that_hangs_does_not_hold_up_the_agent_s_end(server: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an agent does when it ends: the loop is closed, and with it the threads that it waits for."""
    monkeypatch.setattr(mail, "_TIMEOUT_S", 600)
    server.answers = {"GREETING": ""}

    async def begin_and_leave() -> None:
        sending = asyncio.create_task(EmailNotifier().send(server.place(), NOTICE))
        await asyncio.to_thread(server.asked.wait, 60)
        sending.cancel()

    asyncio.run(begin_and_leave())
    assert [thread for thread in threading.enumerate() if thread.name.startswith("mail to ")], "it was waited for"


def test_a_server_that_drips_is_given_up(server: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = {"GREETING": ""}
    monkeypatch.setattr(mail, "_WHOLE_S", 0.2)
    with pytest.raises(UnavailableError, match="was not done after"):
        send(server.place())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"slack": {"env": "X"}, "sns": "arn:aws:sns:eu-central-1:123456789012:x"}, "exactly one of sns, slack"),
        ({"slack": "https://hooks.slack.com/x"}, "must be a reference to a secret"),
        ({"webhook": {"url": "ftp://x", "secret": {"env": "X"}}}, "must be a URL"),
        ({"webhook": {"url": "https://x"}}, "Field required"),
        ({"email": {"host": "h", "sender": "a@b", "to": []}}, "at least 1 item"),
        ({"email": {"host": "h", "sender": "a@b\nBcc: x@y", "to": ["a@b"]}}, "must be an address"),
        ({"email": {"host": "h", "sender": "a@b", "to": ["a@b"], "username": "u"}}, "needs both"),
        (
            {
                "email": {
                    "host": "h",
                    "sender": "a@b",
                    "to": ["a@b"],
                    "username": "u",
                    "password": {"env": "P"},
                    "tls": "none",
                }
            },
            "in the clear",
        ),
    ],
)
def test_what_no_place_can_be(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Notify.model_validate(table)
