"""Durations that survive a restart of the agent.

A reading is JSON, so that it can be kept in a journal. It counts on CLOCK_MONOTONIC, which neither a
suspended host nor a changed clock moves, and which goes on across processes; it begins anew with each
boot, so a reading names its boot.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from seamless.clock import boot_id


def read() -> dict[str, Any]:
    """Now, as `{"boot": id, "at_s": seconds}`."""
    return {"boot": boot_id(), "at_s": time.monotonic()}


def elapsed_s(since: Mapping[str, Any] | None) -> float | None:
    """Seconds since that reading; None when there is none or the host was booted in between."""
    if since is None or since["boot"] != boot_id():
        return None
    return time.monotonic() - float(since["at_s"])
