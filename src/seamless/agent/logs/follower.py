"""Copies what a stage writes to its spool into its log: redacted, and once, whatever happens to the agent."""

from __future__ import annotations

from typing import Final

from seamless.agent.logs.redaction import Patterns, Position, Redactor
from seamless.agent.logs.spool import Spool
from seamless.agent.logs.writer import LogWriter

_CHUNK: Final = 256 * 1024


class SpoolFollower:
    """Copies one spool to one log, from where the log says that the spool was copied to.

    Blocking, and for one thread at a time; `behind` and `end` may be called from another one. After an
    OSError the call can be repeated: nothing is lost or doubled.
    """

    def __init__(self, writer: LogWriter, spool: Spool, patterns: Patterns) -> None:
        self._writer = writer
        self._spool = spool
        self._patterns = patterns
        self._redactor = Redactor(patterns, writer.position)
        self._pending: tuple[bytes, Position] | None = None  # taken from the spool, not yet in the log

    def end(self) -> int:
        """Where the spool ends now."""
        return self._spool.size()

    def behind(self) -> bool:
        """Whether there may be something to copy."""
        return self._pending is not None or self._spool.size() != self._redactor.read_to

    def copied_to(self, end: int) -> bool:
        """Whether all before `end` was taken from the spool and is in the log (or held back)."""
        return self._pending is None and self._redactor.read_to >= end

    def step(self) -> bool:
        """Copies one chunk; False when there was none."""
        if self._pending is None:
            chunk = self._spool.read(self._redactor.read_to, _CHUNK)
            if chunk:
                data = self._redactor.feed(chunk)
                self._pending = data, self._redactor.position
            elif self._spool.size() < self._redactor.read_to:
                self._begin_anew()
            else:
                return False
        self._store_pending()
        return True

    def finish(self) -> None:
        """After the last step: stores what was held back as the possible beginning of a secret."""
        if self._pending is None:
            rest = self._redactor.finish()
            self._pending = rest, self._redactor.position
        self._store_pending()
        self._writer.append_total()

    def line(self, text: str) -> None:
        """A line of the agent's own."""
        self._writer.append_line(self._patterns.redact(text.encode(errors="replace")))

    def _begin_anew(self) -> None:
        """The stage cut its spool, so there may be something new at its beginning."""
        rest = self._redactor.finish()
        note = self._writer.line("the stage cut off its own output here", after=rest)
        self._redactor = Redactor(self._patterns)
        self._pending = rest + note, self._redactor.position

    def _store_pending(self) -> None:
        if self._pending is not None:
            data, position = self._pending
            self._writer.append(data, position)
            self._pending = None
            self._spool.release(position.offset)
