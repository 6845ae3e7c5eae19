"""The tables that say who is told what happens. A kind of place is a field of Notify and an entry of NOTIFY_KINDS."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, Field, model_validator

from seamless.config import values as v
from seamless.config.secret import SecretRef
from seamless.config.table import Table
from seamless.model import NoticeKind

_ADDRESS: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")


def _address(text: str) -> str:
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError('must be an address such as "ci@acme.example"')
    return text


_MailAddress = Annotated[str, v.Words("address"), AfterValidator(_address)]

NOTIFY_KINDS: Final = ("sns", "slack", "webhook", "email")


class NotifyWebhook(Table):
    """An HTTP end point of yours, which gets each notice as JSON."""

    url: v.HttpUrl = Field(description="where notices are posted to")
    secret: SecretRef = Field(
        description='signs them: the header `Seamless-Signature` is `t=<unix time>,v1=<HMAC-SHA256 of "<t>.<body>">`'
    )


class NotifyEmail(Table):
    """E-mail by a mail server of yours."""

    host: v.Word = Field(description="the mail server")
    port: v.Port = Field(default=587, description="its port")
    tls: Literal["starttls", "implicit", "none"] = Field(
        default="starttls", description="`implicit` for port 465; `none` only for a server on this host"
    )
    username: v.Line | None = Field(default=None, description="log-in, with `password`")
    password: SecretRef | None = Field(default=None, description="log-in, with `username`")
    sender: _MailAddress = Field(description="whom it is from")
    to: Annotated[v.Distinct[_MailAddress], MinLen(1)] = Field(description="whom it is to")

    @model_validator(mode="after")
    def _logs_in_whole(self) -> NotifyEmail:
        if (self.username is None) != (self.password is None):
            raise ValueError("needs both of username and password, or neither")
        if self.password is not None and self.tls == "none":
            raise ValueError("would send the password in the clear: set tls")
        return self


class Notify(Table):
    """Somebody who is told what happens. Exactly one kind of place is set, which says where."""

    sns: v.TopicArn | None = Field(
        default=None, description="an SNS topic, with all that may stand behind one: e-mail, chat, a queue, a pager"
    )
    slack: SecretRef | None = Field(
        default=None, description="a Slack channel: a reference to the URL of an incoming webhook, which is a secret"
    )
    webhook: NotifyWebhook | None = Field(
        default=None, description="an HTTP end point of yours: `[notify.NAME.webhook]`"
    )
    email: NotifyEmail | None = Field(default=None, description="e-mail: `[notify.NAME.email]`")
    events: v.Distinct[v.NoticeName] = Field(
        default=[
            NoticeKind.FAILURE,
            NoticeKind.RECOVERY,
            NoticeKind.APPROVAL,
            NoticeKind.DEPLOYMENT,
            NoticeKind.HOLD,
            NoticeKind.PAUSE,
        ],
        description="what is told: `failure`, `recovery` (once), `approval`, `deployment`, `hold`, `pause` (a "
        "repository is closed to us, by an expired token for example), `run` (each one's beginning and end), "
        "`stage` (each one's end)",
    )
    services: v.Distinct[v.ServiceName] = Field(default=[], description="of these services; empty: of all")
    pull_requests: bool = Field(
        default=False, description="also of runs that cannot lead to production: pull requests, other refs, local trees"
    )

    @model_validator(mode="after")
    def _names_one_kind(self) -> Notify:
        if sum(getattr(self, kind) is not None for kind in NOTIFY_KINDS) != 1:
            raise ValueError(f"must say where to: exactly one of {', '.join(NOTIFY_KINDS)}")
        return self

    @property
    def kind(self) -> str:
        """Which of NOTIFY_KINDS is set."""
        return next(kind for kind in NOTIFY_KINDS if getattr(self, kind) is not None)
