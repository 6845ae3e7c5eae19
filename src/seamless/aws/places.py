"""Where a secret lies in AWS: a reference of the configuration, taken apart, and as ECS wants it."""

from __future__ import annotations

from typing import NamedTuple

from seamless.config import SecretRef
from seamless.errors import ConfigError

_COLONS_IN_ARN = 6  # arn:aws:secretsmanager:<region>:<account>:secret:<name>


class SecretPlace(NamedTuple):
    """A secret of Secrets Manager, and which key of its JSON; None: all of it."""

    id: str  # a name or an ARN
    key: str | None


def secret_place(place: str) -> SecretPlace:
    """`prod/mail:password` -> ("prod/mail", "password"). A name holds no colon, and an ARN six."""
    parts = place.split(":")
    in_id = _COLONS_IN_ARN + 1 if place.startswith("arn:") else 1
    key = ":".join(parts[in_id:])
    return SecretPlace(":".join(parts[:in_id]), key or None)


def value_from(ref: SecretRef, *, partition: str, region: str, account: str) -> str:
    """What `valueFrom` of a container definition's secret is, for a task in that region and account.

    A name is taken for one of the task's own region and account. Raises ConfigError for a secret that only the build
    host knows. docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
    """
    if ref.ssm is not None:
        if ref.ssm.startswith("arn:"):
            return ref.ssm
        return f"arn:{partition}:ssm:{region}:{account}:parameter/{ref.ssm.removeprefix('/')}"
    if ref.secretsmanager is not None:
        place = secret_place(ref.secretsmanager)
        arn = place.id
        if not arn.startswith("arn:"):
            arn = f"arn:{partition}:secretsmanager:{region}:{account}:secret:{arn}"
        return arn if place.key is None else f"{arn}:{place.key}::"
    raise ConfigError(
        f"the secret {ref.reference} is known to the build host only, and a task of ECS cannot read it there",
        hint='put it into AWS, and name it as { ssm = "/name" } or { secretsmanager = "name" }',
    )
