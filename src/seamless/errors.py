"""Every error that Seamless raises on purpose.

    SeamlessError
    ├── ConfigError            the configuration cannot be used          exit 2, HTTP 422
    ├── UsageError             the request makes no sense                exit 2, HTTP 400
    │   └── NotFoundError      it names something that does not exist    exit 2, HTTP 404
    ├── AgentUnreachableError  no agent answers                          exit 3
    ├── RefusedError           not in this state, or not by this user    exit 5, HTTP 409
    │   └── ForbiddenError     not by this user                          exit 5, HTTP 403
    ├── UnavailableError       a far end cannot be reached now           exit 1, HTTP 503
    │   └── HostError          of the agent's own host: never a verdict
    │       ├── StorageError            its disk is full or cannot be used
    │       └── EngineUnavailableError  its Docker Engine does not answer
    ├── StageError             a stage failed, with the reason that the run shows
    │   └── InterruptedStageError   its work was lost, not its verdict: try again
    └── ProgrammingError       a transition that the table does not have, and the like   exit 1, HTTP 500

A message says what happened and where; `hint` says what to do next. Neither ends in a full stop
when it is one sentence fragment, and neither holds a secret.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SeamlessError(Exception):
    """Base of all; `code` is what the HTTP API puts in `error.code`."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def reason(self) -> str:
        """The message with its hint, for what is kept and shown later."""
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


class ConfigError(SeamlessError):
    code = "config"
    exit_code = 2
    http_status = 422


class UsageError(SeamlessError):
    code = "usage"
    exit_code = 2
    http_status = 400


class NotFoundError(UsageError):
    code = "not_found"
    http_status = 404


class AgentUnreachableError(SeamlessError):
    code = "agent_unreachable"
    exit_code = 3


class RefusedError(SeamlessError):
    code = "refused"
    exit_code = 5
    http_status = 409


class ForbiddenError(RefusedError):
    code = "forbidden"
    http_status = 403


class UnavailableError(SeamlessError):
    """A far end (git server, registry, engine) cannot be reached; the same call may work later."""

    code = "unavailable"
    http_status = 503


class HostError(UnavailableError):
    """The agent's own host is in trouble, which passes: no verdict on what met it, which is done again."""


class StorageError(HostError):
    """The disk is full, or cannot be written or read for another reason that may pass."""


class EngineUnavailableError(HostError):
    """The Docker Engine does not answer: a request may or may not have had its effect."""


class StageError(SeamlessError):
    """A stage's verdict is failure. The message is the reason, e.g. "exit code 1", "out of memory"."""

    code = "stage_failed"

    def __init__(self, message: str, *, exit_code: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stage_exit_code = exit_code
        self.detail: dict[str, Any] = {}  # evidence that is kept with the stage, e.g. "tests", "explanation"


class InterruptedStageError(StageError):
    """The stage's work was lost without a verdict (engine stopped, container gone): the `interrupt` event."""

    code = "stage_interrupted"


class ProgrammingError(SeamlessError):
    code = "internal"
