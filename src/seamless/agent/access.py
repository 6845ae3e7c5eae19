"""Who may do what: `[access]`, and whose word counts without it."""

from __future__ import annotations

import os
import pwd
from enum import IntEnum

from seamless.config import Access
from seamless.errors import ForbiddenError
from seamless.model import Actor


class Role(IntEnum):
    """Each may do what the ones before it may."""

    READER = 0  # whoever may open the socket
    OPERATOR = 1  # run, cancel, rerun, roll back staging
    APPROVER = 2  # approve, reject, release, promote, hold, roll back production
    ADMIN = 3  # configuration, environments, shell


def actor_of(uid: int, origin: str | None = None) -> Actor:
    """The user at the other end of the socket."""
    try:
        return Actor(pwd.getpwuid(uid).pw_name, uid, origin)
    except KeyError:
        return Actor(f"uid {uid}", uid, origin)


def role_of(actor: Actor, access: Access | None) -> Role:
    """Root and the agent's own user are admins; without `[access]` everybody is."""
    if access is None or actor.uid in (0, os.geteuid()):
        return Role.ADMIN
    for role, names in (
        (Role.ADMIN, access.admins),
        (Role.APPROVER, access.approvers),
        (Role.OPERATOR, access.operators),
    ):
        if actor.name in names:
            return role
    return Role.READER


def require(actor: Actor, needed: Role, access: Access | None, what: str) -> None:
    """Raises ForbiddenError, saying who may."""
    if role_of(actor, access) >= needed:
        return
    assert access is not None
    names = [*access.admins]
    if needed <= Role.APPROVER:
        names += access.approvers
    if needed <= Role.OPERATOR:
        names += access.operators
    may = ", ".join(dict.fromkeys(names)) or "nobody but root"
    raise ForbiddenError(f"{actor.name} may not {what}", hint=f"these may: {may} ([access] in the configuration)")
