"""The tables that say who is told what happens. A kind of place is a field of Notify and an entry of NOTIFY_KINDS."""

from __future__ import annotations

from typing import Final

from pydantic import Field, model_validator

from seamless.config import values as v
from seamless.config.table import Table
from seamless.model import NoticeKind

NOTIFY_KINDS: Final = ("sns",)


class Notify(Table):
    """Somebody who is told what happens. Exactly one kind of place is set, which says where."""

    sns: v.TopicArn | None = Field(
        default=None, description="an SNS topic, with all that may stand behind one: e-mail, chat, a queue, a pager"
    )
    events: v.Distinct[v.NoticeName] = Field(
        default=[NoticeKind.FAILURE, NoticeKind.RECOVERY, NoticeKind.APPROVAL, NoticeKind.DEPLOYMENT, NoticeKind.HOLD],
        description="what is told: `failure`, `recovery` (once), `approval`, `deployment`, `hold`, `run` (each one's "
        "beginning and end), `stage` (each one's end)",
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
