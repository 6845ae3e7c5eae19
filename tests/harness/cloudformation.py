"""CloudFormation from a script, beside moto: its own takes half of our resources, and never fails.

A script is what happens in the next operation, as a table: each step is what one look at the stack finds new, as
(logical id, status, reason); the last step's status is where the stack comes to rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from harness.aws import ACCOUNT, REGION, Moto, Refusal, refusal_in_xml

Step = Sequence[tuple[str, str, str | None]]
_ACTIONS = ["CreateStack", "UpdateStack", "DeleteStack", "DescribeStacks", "DescribeStackEvents", "GetTemplate"]
_PAGE = 4  # events


@dataclass
class _Stack:
    name: str
    id: str
    template: str
    tags: Mapping[str, str]
    status: str
    created_at: datetime
    updated_at: datetime | None = None
    reason: str | None = None
    events: list[tuple[str, datetime, str, str, str | None]] = field(default_factory=list)
    coming: list[Step] = field(default_factory=list)


class CloudFormation:
    """`scripts` are for the next operations, in order; without one, all goes well at once."""

    def __init__(self, moto: Moto) -> None:
        self.stacks: list[_Stack] = []
        self.scripts: list[list[Step]] = []
        self.lost: list[str] = []  # actions whose next answer is lost after the effect
        self._answered: dict[tuple[str, str], Response] = {}  # by action and token
        self._clock = datetime(2026, 12, 3, 14, 2, tzinfo=UTC)
        self._moto = moto
        moto.instead(_ACTIONS, self._answer)

    def find(self, name: str) -> _Stack | None:
        """By id, deleted or not; by name only when it is not deleted. As AWS does."""
        for stack in reversed(self.stacks):
            if stack.id == name or (stack.name == name and stack.status != "DELETE_COMPLETE"):
                return stack
        return None

    def add(self, name: str, template: Mapping[str, Any], tags: Mapping[str, str], status: str) -> _Stack:
        """A stack that is there already."""
        stack = self._new(name, json.dumps(template), tags, status)
        self._happens(stack, name, status, None)
        return stack

    def _answer(self, action: str, form: Mapping[str, Any]) -> Response:
        """Asked again with the same token, nothing is done again: so AWS tells a retry from another request."""
        token = form.get("ClientRequestToken")
        if token is None:
            return self._act(action, form)
        if (action, token) not in self._answered:
            self._answered[action, token] = self._act(action, form)
        if action in self.lost:
            self.lost.remove(action)
            return refusal_in_xml(Refusal("InternalFailure", "the answer is lost", 500))
        return self._answered[action, token]

    def _act(self, action: str, form: Mapping[str, Any]) -> Response:
        stack = self.find(form["StackName"])
        if stack is None and action not in ("CreateStack", "DeleteStack"):
            return refusal_in_xml(Refusal("ValidationError", f"Stack with id {form['StackName']} does not exist"))
        match action:
            case "CreateStack":
                return self._create(form)
            case "UpdateStack":
                assert stack is not None
                return self._update(stack, form)
            case "DeleteStack":
                if stack is not None:
                    self._begin(stack, "DELETE")
                return _xml(action, "")
            case "DescribeStacks":
                assert stack is not None
                self._advance(stack)
                return _xml(action, f"<Stacks><member>{_described(stack)}</member></Stacks>")
            case "DescribeStackEvents":
                assert stack is not None
                return _xml(action, self._events(stack, int(form.get("NextToken", "0"))))
            case _:
                assert stack is not None
                return _xml(action, f"<TemplateBody>{escape(stack.template)}</TemplateBody>")

    def _create(self, form: Mapping[str, Any]) -> Response:
        if self.find(form["StackName"]) is not None:
            return refusal_in_xml(Refusal("AlreadyExistsException", f"Stack [{form['StackName']}] already exists"))
        stack = self._new(form["StackName"], self._body(form), _tags(form), "CREATE_IN_PROGRESS")
        self._begin(stack, "CREATE")
        return _xml("CreateStack", f"<StackId>{stack.id}</StackId>")

    def _update(self, stack: _Stack, form: Mapping[str, Any]) -> Response:
        body = self._body(form)
        if json.loads(body) == json.loads(stack.template):
            return refusal_in_xml(Refusal("ValidationError", "No updates are to be performed."))
        stack.template, stack.tags = body, _tags(form)
        stack.updated_at = self._now()
        self._begin(stack, "UPDATE")
        return _xml("UpdateStack", f"<StackId>{stack.id}</StackId>")

    def _body(self, form: Mapping[str, Any]) -> str:
        """The template, from wherever it is."""
        if url := form.get("TemplateURL"):
            bucket, _, key = urlsplit(url).path.lstrip("/").partition("/")
            found: str = self._moto.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
            return found
        return str(form["TemplateBody"])

    def _new(self, name: str, template: str, tags: Mapping[str, str], status: str) -> _Stack:
        number = len(self.stacks) + 1
        id = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/00000000-0000-4000-8000-{number:012}"
        self.stacks.append(_Stack(name, id, template, tags, status, self._now()))
        return self.stacks[-1]

    def _begin(self, stack: _Stack, verb: str) -> None:
        self._happens(stack, stack.name, f"{verb}_IN_PROGRESS", "User Initiated")
        resources = list(json.loads(stack.template)["Resources"])
        well: list[Step] = [
            [(name, f"{verb}_IN_PROGRESS", None) for name in resources],
            [(name, f"{verb}_COMPLETE", None) for name in resources],
            [(stack.name, f"{verb}_COMPLETE", None)],
        ]
        stack.coming = self.scripts.pop(0) if self.scripts else well

    def _advance(self, stack: _Stack) -> None:
        if stack.coming:
            for name, status, reason in stack.coming.pop(0):
                self._happens(stack, name, status, reason)

    def _happens(self, stack: _Stack, name: str, status: str, reason: str | None) -> None:
        stack.events.append((f"{name}-{len(stack.events)}", self._now(), name, status, reason))
        if name == stack.name:
            stack.status, stack.reason = status, reason

    def _now(self) -> datetime:
        self._clock += timedelta(milliseconds=250)
        return self._clock

    def _events(self, stack: _Stack, skip: int) -> str:
        types = {name: one["Type"] for name, one in json.loads(stack.template)["Resources"].items()}
        newest = stack.events[::-1]
        members = "".join(
            f"<member><StackId>{stack.id}</StackId><StackName>{stack.name}</StackName><EventId>{id}</EventId>"
            f"<Timestamp>{at.isoformat()}</Timestamp><LogicalResourceId>{name}</LogicalResourceId>"
            f"<ResourceType>{types.get(name, 'AWS::CloudFormation::Stack')}</ResourceType>"
            f"<ResourceStatus>{status}</ResourceStatus>"
            + (f"<ResourceStatusReason>{escape(reason)}</ResourceStatusReason>" if reason else "")
            + "</member>"
            for id, at, name, status, reason in newest[skip : skip + _PAGE]
        )
        more = f"<NextToken>{skip + _PAGE}</NextToken>" if len(newest) > skip + _PAGE else ""
        return f"<StackEvents>{members}</StackEvents>{more}"


def _described(stack: _Stack) -> str:
    tags = "".join(f"<member><Key>{key}</Key><Value>{value}</Value></member>" for key, value in stack.tags.items())
    updated = f"<LastUpdatedTime>{stack.updated_at.isoformat()}</LastUpdatedTime>" if stack.updated_at else ""
    reason = f"<StackStatusReason>{escape(stack.reason)}</StackStatusReason>" if stack.reason else ""
    return (
        f"<StackName>{stack.name}</StackName><StackId>{stack.id}</StackId><StackStatus>{stack.status}</StackStatus>"
        f"<CreationTime>{stack.created_at.isoformat()}</CreationTime>{updated}{reason}<Tags>{tags}</Tags>"
    )


def _tags(form: Mapping[str, Any]) -> dict[str, str]:
    numbers = range(1, 50)
    return {
        form[f"Tags.member.{number}.Key"]: form[f"Tags.member.{number}.Value"]
        for number in numbers
        if f"Tags.member.{number}.Key" in form
    }


def _xml(action: str, result: str) -> Response:
    return Response(
        f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>", content_type="text/xml"
    )
