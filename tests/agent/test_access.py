"""`[access]`: each role may do what the ones before it may, and a refusal says who may."""

from __future__ import annotations

import os
import pwd

import pytest

from seamless.agent.access import Role, actor_of, require, role_of
from seamless.config import Access
from seamless.errors import ForbiddenError
from seamless.model import Actor

ACCESS = Access(operators=["olga"], approvers=["anna"], admins=["adam"])
STRANGER = 4_000_000_000


@pytest.mark.parametrize(
    ("name", "role"),
    [("olga", Role.OPERATOR), ("anna", Role.APPROVER), ("adam", Role.ADMIN), ("rudi", Role.READER)],
)
def test_roles_go_by_user_name(name: str, role: Role) -> None:
    assert role_of(Actor(name, STRANGER), ACCESS) is role


def test_the_highest_of_several_roles_counts() -> None:
    assert role_of(Actor("olga", STRANGER), Access(operators=["olga"], approvers=["olga"])) is Role.APPROVER


def test_root_and_the_agents_own_user_are_admins() -> None:
    assert role_of(Actor("root", 0), ACCESS) is Role.ADMIN
    assert role_of(Actor("whoever", os.geteuid()), ACCESS) is Role.ADMIN


def test_without_the_table_whoever_may_open_the_socket_may_do_all() -> None:
    assert role_of(Actor("rudi", STRANGER), None) is Role.ADMIN


def test_a_refusal_names_who_may() -> None:
    require(Actor("anna", STRANGER), Role.OPERATOR, ACCESS, "run web")
    with pytest.raises(ForbiddenError) as refused:
        require(Actor("olga", STRANGER), Role.APPROVER, ACCESS, "approve web-1")
    assert refused.value.message == "olga may not approve web-1"
    assert refused.value.hint is not None
    assert "adam, anna" in refused.value.hint
    assert "olga" not in refused.value.hint
    with pytest.raises(ForbiddenError, match="rudi may not run web"):
        require(Actor("rudi", STRANGER), Role.OPERATOR, Access(), "run web")


def test_a_peer_is_named_by_its_uid() -> None:
    assert actor_of(0) == Actor(pwd.getpwuid(0).pw_name, 0)
    assert actor_of(STRANGER) == Actor(f"uid {STRANGER}", STRANGER)
