"""References to secrets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from seamless.config import values as v
from seamless.config.table import Table


class SecretRef(Table):
    """Where a secret is read from when it is needed. Never the secret itself."""

    env: v.HostVariable | None = Field(default=None, description="a variable of the agent's environment")
    file: v.HostPath | None = Field(
        default=None, description="a file of the host; one newline at its end is not part of it"
    )
    ssm: v.ParameterName | None = Field(
        default=None, description="a parameter of AWS Systems Manager, by name or ARN; `:3` or `:label` picks a version"
    )
    secretsmanager: v.SecretId | None = Field(
        default=None,
        description="a secret of AWS Secrets Manager, by name or ARN; `:key` picks a key of one that is JSON",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_table(cls, value: Any) -> Any:
        if not isinstance(value, dict | SecretRef):
            raise ValueError('must be a reference to a secret, such as { env = "NAME" }, never the secret itself')
        return value

    @model_validator(mode="after")
    def _names_one_source(self) -> SecretRef:
        if sum(getattr(self, source) is not None for source in SecretRef.model_fields) != 1:
            raise ValueError(f"must name exactly one of {', '.join(SecretRef.model_fields)}")
        return self

    @property
    def source(self) -> str:
        """Which of the keys is set."""
        return next(name for name in SecretRef.model_fields if getattr(self, name) is not None)

    @property
    def place(self) -> str:
        """What that key says: a variable's name, a path, a parameter's name."""
        return str(getattr(self, self.source))

    @property
    def reference(self) -> str:
        """How it is written, for messages: `{ env = "NPM_TOKEN" }`."""
        return f'{{ {self.source} = "{self.place}" }}'


class Secret(SecretRef):
    """Where a secret is read from when it is needed, and who gets it. Exactly one of the first four is set."""

    expose: list[Literal["pr"]] = Field(
        default=[],
        description="`pr`: pull requests from the same repository, and manual runs of other refs, get it too",
    )
