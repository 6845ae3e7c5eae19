"""What a webhook of GitHub says has changed. Pure.

Of a payload only what names the change is read: what is there now is asked of the repository, because deliveries are
late, doubled, in any order, and can be sent again by whoever got hold of one (docs.github.com/en/webhooks).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from seamless.errors import UsageError

_ID_MAX: Final = 2**63 - 1  # of the database's integers
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_REF: Final = re.compile(r"refs/[^\x00-\x20\x7f]{1,1000}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ACTION: Final = re.compile(r"[a-z_]{1,100}")


class MalformedPayloadError(UsageError):
    """The payload of an event that counts lacks what GitHub always sends."""


@dataclass(frozen=True, slots=True)
class Told:
    """`repository` (its number) and `name` are None for an event of something else. An event whose `ref`,
    `pull_request` and `commit` are all None asks for nothing."""

    event: str
    action: str | None = None
    repository: int | None = None
    name: str | None = None  # "owner/name", as it was then
    ref: str | None = None  # full; of a push
    pull_request: int | None = None
    commit: str | None = None  # of a push: what `ref` names now; else what was reviewed, or checked by somebody
    hook: int | None = None  # of a ping

    @property
    def asks(self) -> bool:
        """Whether there is something to look into."""
        return self.ref is not None or self.pull_request is not None or self.commit is not None


def read_event(event: str, payload: Mapping[str, Any]) -> Told:
    """Raises MalformedPayloadError. An event that is not known is told without more."""
    action = payload.get("action")
    told = Told(event, action if isinstance(action, str) and _ACTION.fullmatch(action) else None)
    match event:
        case "push":
            identity, name = _repository(payload)
            after = payload.get("after")
            commit = after if isinstance(after, str) and _COMMIT.fullmatch(after) else None
            return Told(event, told.action, identity, name, ref=_matching(payload, "ref", _REF), commit=commit)
        case "pull_request":
            identity, name = _repository(payload)
            return Told(event, told.action, identity, name, pull_request=_number(payload, "number"))
        case "pull_request_review":
            identity, name = _repository(payload)
            head = _table(_table(payload, "pull_request"), "head")
            return Told(event, told.action, identity, name, commit=_matching(head, "sha", _COMMIT))
        case "check_suite" if told.action == "completed":
            identity, name = _repository(payload)
            suite = _table(payload, "check_suite")
            return Told(event, told.action, identity, name, commit=_matching(suite, "head_sha", _COMMIT))
        case "status" if payload.get("state") != "pending":
            identity, name = _repository(payload)
            return Told(event, told.action, identity, name, commit=_matching(payload, "sha", _COMMIT))
        case "ping":
            hook = _number(payload, "hook_id")
            if "repository" not in payload:  # of an organisation's hook
                return Told(event, told.action, hook=hook)
            identity, name = _repository(payload)
            return Told(event, told.action, identity, name, hook=hook)
        case _:
            return told


def _repository(payload: Mapping[str, Any]) -> tuple[int, str]:
    repository = _table(payload, "repository")
    return _number(repository, "id"), _matching(repository, "full_name", _NAME)


def _table(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = of.get(key)
    if not isinstance(value, Mapping):
        raise MalformedPayloadError(f"the payload has no {key}")
    return value


def _number(of: Mapping[str, Any], key: str) -> int:
    value = of.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _ID_MAX:
        raise MalformedPayloadError(f"{key} is not a number that GitHub gives")
    return value


def _matching(of: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = of.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedPayloadError(f"{key} is not what GitHub writes there")
    return value
