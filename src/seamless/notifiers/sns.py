"""Notices as messages of Amazon SNS. docs.aws.amazon.com/sns/latest/api/API_Publish.html has the limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from seamless.config import Notify
from seamless.errors import ProgrammingError
from seamless.notifiers.notices import Notice

Publish = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Calls Publish in that region with these parameters. Raises SeamlessError, UsageError when SNS will never take it."""

_SUBJECT_MAX: Final = 99  # ASCII characters
_MESSAGE_MAX: Final = 200 * 1024  # bytes; SNS takes 256 KiB with the attributes
_CUT: Final = "\n… (cut)\n"


class SnsNotifier:
    """Implements `notifiers.Notifier`."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    async def send(self, place: Notify, notice: Notice) -> None:
        if place.sns is None:
            raise ProgrammingError("a place without a topic came to SNS")
        await self._publish(region_of(place.sns), request(place.sns, notice))


def region_of(topic: str) -> str:
    """`arn:aws:sns:eu-central-1:…` -> `eu-central-1`."""
    return topic.split(":")[3]


def request(topic: str, notice: Notice) -> dict[str, Any]:
    """The parameters of Publish. Subscriptions filter by the attributes; e-mail shows subject and message."""
    parameters: dict[str, Any] = {
        "TopicArn": topic,
        "Subject": _subject(notice.title),
        "Message": _message(notice.text),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in notice.attributes.items() if value
        },
    }
    if topic.endswith(".fifo"):
        parameters |= {"MessageGroupId": notice.service or "seamless", "MessageDeduplicationId": notice.id}
    return parameters


def _subject(title: str) -> str:
    """One line of printable ASCII that begins with a letter, a digit or punctuation."""
    ascii_only = title.encode("ascii", "replace").decode()
    printable = "".join(char if char.isprintable() else " " for char in ascii_only)
    line = " ".join(printable.split()) or "Seamless"
    return line if len(line) <= _SUBJECT_MAX else f"{line[: _SUBJECT_MAX - 3]}..."


def _message(text: str) -> str:
    data = text.encode(errors="replace")
    if len(data) <= _MESSAGE_MAX:
        return data.decode()
    return data[: _MESSAGE_MAX - len(_CUT.encode())].decode(errors="ignore") + _CUT
