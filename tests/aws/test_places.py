"""Secrets of AWS as ECS wants them named."""

from __future__ import annotations

import pytest

from seamless.aws.places import secret_place, value_from
from seamless.config import SecretRef
from seamless.errors import ConfigError

_OURS = "eu-central-1:123456789012"
_MAIL = "arn:aws:secretsmanager:us-east-1:999999999999:secret:mail-AbCdEf"


@pytest.mark.parametrize(
    ("ref", "value"),
    [
        (SecretRef(ssm="/payment/db"), f"arn:aws:ssm:{_OURS}:parameter/payment/db"),
        (SecretRef(ssm="db"), f"arn:aws:ssm:{_OURS}:parameter/db"),
        (SecretRef(ssm="db:3"), f"arn:aws:ssm:{_OURS}:parameter/db:3"),
        (
            SecretRef(ssm="arn:aws:ssm:us-east-1:999999999999:parameter/x"),
            "arn:aws:ssm:us-east-1:999999999999:parameter/x",
        ),
        (SecretRef(secretsmanager="prod/mail"), f"arn:aws:secretsmanager:{_OURS}:secret:prod/mail"),
        (SecretRef(secretsmanager="prod/mail:password"), f"arn:aws:secretsmanager:{_OURS}:secret:prod/mail:password::"),
        (SecretRef(secretsmanager=_MAIL), _MAIL),
        (SecretRef(secretsmanager=f"{_MAIL}:password"), f"{_MAIL}:password::"),
    ],
)
def test_where_a_task_finds_its_secret(ref: SecretRef, value: str) -> None:
    assert value_from(ref, partition="aws", region="eu-central-1", account="123456789012") == value


@pytest.mark.parametrize("ref", [SecretRef(env="TOKEN"), SecretRef.model_validate({"file": "/etc/token"})])
def test_a_secret_of_the_build_host_is_none_of_a_tasks(ref: SecretRef) -> None:
    with pytest.raises(ConfigError, match="known to the build host only") as refused:
        value_from(ref, partition="aws", region="eu-central-1", account="123456789012")
    assert "{ ssm =" in str(refused.value.hint)


@pytest.mark.parametrize("id", ["prod/mail", _MAIL])
@pytest.mark.parametrize("key", [None, "password"])
def test_a_secrets_id_and_key_are_told_apart(id: str, key: str | None) -> None:
    assert secret_place(id if key is None else f"{id}:{key}") == (id, key)
