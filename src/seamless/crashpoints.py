"""Named points at which a test may kill the agent. Without the environment variable, they cost one look-up.

`SEAMLESS_CRASH_AT=<name>` kills this process with SIGKILL the first time that point is reached;
`SEAMLESS_CRASH_LOG=<file>` appends each name reached, which is how the tests learn which there are.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_AT: Final = os.environ.get("SEAMLESS_CRASH_AT")
_LOG: Final = os.environ.get("SEAMLESS_CRASH_LOG")


def crash_point(name: str) -> None:
    """A place where dying must lose nothing: before a commit, after it, after an effect and before its record."""
    if _LOG is not None:
        with open(_LOG, "a", encoding="utf-8") as log:
            log.write(name + "\n")
    if name == _AT:
        os.kill(os.getpid(), signal.SIGKILL)
