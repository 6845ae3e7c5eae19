"""CloudFormation stacks: looked at, changed, and followed to their end.

A stack goes on in AWS whatever becomes of us, so nothing of it is stored here: whoever wants to know asks
CloudFormation. Each change carries a token of its own: when an answer is lost and the SDK asks again, it is not done
twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from seamless.aws.errors import AwsError
from seamless.aws.sessions import Account
from seamless.crashpoints import crash_point
from seamless.errors import UnavailableError

_CREATE_MINUTES: Final = 45  # services that never become stable end then, not after CloudFormation's three hours
_POLL_S: Final = 3.0
_PATIENCE_S: Final = 300.0  # of following, while AWS does not answer
_QUIET_LOOKS: Final = 5  # at a stack whose change has begun and does not show yet

UP: Final = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
CHANGEABLE: Final = UP | {"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}


@dataclass(frozen=True, slots=True)
class Stack:
    id: str  # its ARN, which names it even when it is deleted
    name: str
    status: str  # CloudFormation's, e.g. "UPDATE_ROLLBACK_COMPLETE"
    reason: str | None
    tags: Mapping[str, str]
    changed_at: datetime

    @property
    def is_busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS")


@dataclass(frozen=True, slots=True)
class StackEvent:
    """One step of one resource, or of the stack itself."""

    id: str
    at: datetime
    resource: str  # logical id; the stack's name for the stack itself
    type: str
    status: str
    reason: str | None

    @property
    def is_failure(self) -> bool:
        """What went wrong by itself, not what was stopped because of it."""
        said = self.reason or ""
        return self.status.endswith("_FAILED") and "cancelled" not in said and "canceled" not in said


class Stacks:
    """Those of one account and region. `poll_s` is the time between two looks at one that is followed."""

    def __init__(self, account: Account, *, poll_s: float = _POLL_S) -> None:
        self._account = account
        self._poll_s = poll_s

    async def find(self, name: str) -> Stack | None:
        """By name, or by id when it may be deleted. Raises as `Account.call`."""
        try:
            answer = await self._account.call("cloudformation", "describe_stacks", StackName=name)
        except AwsError as error:
            if error.aws_code == "ValidationError" and "does not exist" in error.message:
                return None
            raise
        return _stack(answer["Stacks"][0])

    async def template(self, name: str) -> dict[str, Any]:
        """As it was sent."""
        answer = await self._account.call("cloudformation", "get_template", StackName=name, TemplateStage="Original")
        body = answer["TemplateBody"]
        found: dict[str, Any] = json.loads(body) if isinstance(body, str) else body
        return found

    async def create(self, name: str, template: Mapping[str, Any], tags: Mapping[str, str]) -> Stack:
        """Begins. When it fails, all that was made is removed again, and so is the stack.

        `template` is TemplateBody or TemplateURL.
        """
        answer = await self._account.call(
            "cloudformation",
            "create_stack",
            StackName=name,
            Capabilities=["CAPABILITY_IAM"],
            OnFailure="DELETE",
            TimeoutInMinutes=_CREATE_MINUTES,
            Tags=_tags(tags),
            ClientRequestToken=_token(),
            **template,
        )
        crash_point("stack.create:after_effect")
        return Stack(answer["StackId"], name, "CREATE_IN_PROGRESS", None, tags, datetime.now(UTC))

    async def update(self, stack: Stack, template: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
        """Begins; False when there is nothing to change. When it fails, CloudFormation goes back to what was."""
        try:
            await self._account.call(
                "cloudformation",
                "update_stack",
                StackName=stack.id,
                Capabilities=["CAPABILITY_IAM"],
                Tags=_tags(tags),
                ClientRequestToken=_token(),
                **template,
            )
        except AwsError as error:
            if "No updates are to be performed" in error.message:
                return False
            raise
        crash_point("stack.update:after_effect")
        return True

    async def delete(self, stack: Stack) -> None:
        """Begins. Only what the stack made is deleted."""
        await self._account.call("cloudformation", "delete_stack", StackName=stack.id, ClientRequestToken=_token())
        crash_point("stack.delete:after_effect")

    async def newest_event_at(self, id: str) -> datetime:
        """By AWS's own clock."""
        answer = await self._account.call("cloudformation", "describe_stack_events", StackName=id)
        return _event(answer["StackEvents"][0]).at

    async def events(self, id: str, since: datetime, seen: set[str]) -> list[StackEvent]:
        """What is new since then, oldest first; adds to `seen`."""
        found: list[StackEvent] = []
        more: dict[str, Any] = {}
        while True:
            answer = await self._account.call("cloudformation", "describe_stack_events", StackName=id, **more)
            page = [_event(one) for one in answer["StackEvents"]]  # newest first
            fresh = [event for event in page if event.id not in seen and event.at > since]
            found += fresh
            if len(fresh) < len(page) or "NextToken" not in answer:
                seen.update(event.id for event in found)
                return found[::-1]
            more = {"NextToken": answer["NextToken"]}

    async def follow(self, id: str, since: datetime) -> AsyncIterator[StackEvent | Stack]:
        """Each event since then, once and in order; last of all the stack, when it has come to rest.

        Raises UnavailableError when AWS has not answered for minutes; the stack goes on all the same.
        """
        loop = asyncio.get_running_loop()
        seen: set[str] = set()
        answered_at = loop.time()
        quiet = 0
        while True:
            try:
                stack = await self.find(id)  # before the events: those that led to this state are there then
                events = await self.events(id, since, seen)
                answered_at = loop.time()
            except UnavailableError:
                if loop.time() - answered_at > _PATIENCE_S:
                    raise
            else:
                for event in events:
                    yield event
                quiet = 0 if events else quiet + 1
                if stack is not None and not stack.is_busy and (seen or quiet > _QUIET_LOOKS):
                    yield stack
                    return
            await asyncio.sleep(self._poll_s * random.uniform(0.8, 1.2))


def _token() -> str:
    return f"seamless-{uuid.uuid4()}"


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _stack(found: Mapping[str, Any]) -> Stack:
    return Stack(
        id=found["StackId"],
        name=found["StackName"],
        status=found["StackStatus"],
        reason=found.get("StackStatusReason"),
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        changed_at=found.get("LastUpdatedTime") or found["CreationTime"],
    )


def _event(found: Mapping[str, Any]) -> StackEvent:
    return StackEvent(
        id=found["EventId"],
        at=found["Timestamp"],
        resource=found.get("LogicalResourceId", ""),
        type=found.get("ResourceType", ""),
        status=found.get("ResourceStatus", ""),
        reason=found.get("ResourceStatusReason"),
    )
