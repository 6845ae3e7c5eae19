"""Logs of stages: from the file that a stage writes to, redacted, to files that many may read.

    stage ──> spool ──> SpoolFollower ──> LogWriter ──> <stage>.log, .idx ──> LogStore: read, follow
                        (Redactor)

Stored are the bytes as the stage wrote them, without its secrets, and lines of the agent's own among
them; `seamless.logtext` makes them fit for a terminal.
"""

from __future__ import annotations

from seamless.agent.logs.recording import Recording
from seamless.agent.logs.redaction import Patterns
from seamless.agent.logs.store import LogId, LogStore, Stamp

__all__ = ["LogId", "LogStore", "Patterns", "Recording", "Stamp"]
