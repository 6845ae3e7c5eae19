"""Who updated a service last, by CloudTrail, which keeps 90 days of an account's calls and is some minutes late."""

from __future__ import annotations

import json
from typing import Any, Final

from seamless.aws.sessions import Account
from seamless.errors import SeamlessError
from seamless.targets.ecs_plan import short_name

_LOOKED_AT: Final = 50


async def who_updated(account: Account, cluster: str, service: str) -> str | None:
    """The user or role of the newest UpdateService of that service; None when CloudTrail does not tell."""
    try:
        answer = await account.call(
            "cloudtrail",
            "lookup_events",
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "UpdateService"}],
            MaxResults=_LOOKED_AT,
        )
    except SeamlessError:
        return None
    for event in answer["Events"]:
        asked = _parameters(event)
        same = (short_name(str(asked.get(key, ""))) == wanted for key, wanted in
                (("cluster", cluster), ("service", service)))  # fmt: skip
        if all(same):
            return str(event.get("Username") or "") or None
    return None


def _parameters(event: Any) -> dict[str, Any]:
    try:
        found = json.loads(event.get("CloudTrailEvent") or "{}").get("requestParameters")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
