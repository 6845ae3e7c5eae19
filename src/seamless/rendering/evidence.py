"""What a stage's `detail` says, in words. Its content comes from stages of many kinds and is read leniently.

note         one line
tests        {"tests", "failed", "skipped", "failures": [{"name", "message"}]}
peers        [{"compose_service", "service", "commit", "digest", "source"}]
address      where the deployed service answers
explanation  lines, why a deployment failed
unproven     why nobody can see that what was deployed runs
kept_from    the run whose result was kept
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seamless.logtext import plain
from seamless.model import short

if TYPE_CHECKING:
    from seamless.wire import StageJSON

_SHOWN_FAILURES = 5
_INDENT_MAX = 8


def notes(stage: StageJSON) -> list[str]:
    """What a stage that is not a failure has to say, most telling first."""
    detail = stage["detail"]
    kept = detail.get("kept_from")
    waits_for = stage["waits_for"]
    found = [
        f"waits for {plain(waits_for)}" if waits_for else "",
        f"kept from {plain(str(kept))}" if kept else "",
        test_counts(detail.get("tests")),
        against(detail.get("peers")),
        plain(str(detail.get("note") or "")),
        plain(str(detail.get("address") or "")),
    ]
    return [note for note in found if note]


def test_counts(tests: object) -> str:
    """`48 tests`, `2 of 48 tests failed`; "" when no report was read."""
    if not isinstance(tests, Mapping) or not tests.get("tests"):
        return ""
    total, failed, skipped = (_count(tests.get(name)) for name in ("tests", "failed", "skipped"))
    counted = f"{total} test" if total == 1 else f"{total} tests"
    if failed:
        return f"{failed} of {counted} failed"
    return f"{counted}, {skipped} skipped" if skipped else counted


def failed_tests(tests: object) -> list[tuple[str, str]]:
    """(name, message) of the first failed tests; a last entry counts the others."""
    shown = all_failed_tests(tests)[:_SHOWN_FAILURES]
    others = _count(tests.get("failed")) - len(shown) if isinstance(tests, Mapping) else 0
    return [*shown, (f"and {others} more", "")] if shown and others > 0 else shown


def all_failed_tests(tests: object) -> list[tuple[str, str]]:
    """(name, message) of each failed test that is known."""
    failures = tests.get("failures") if isinstance(tests, Mapping) else None
    if not isinstance(failures, Sequence) or isinstance(failures, str):
        return []
    return [
        (plain(str(one.get("name", ""))), plain(str(one.get("message", ""))))
        for one in failures
        if isinstance(one, Mapping)
    ]


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def against(peers: object) -> str:
    """`against notification@1e930b4, gateway@fc010d4 (production)`; empty when no other service was there."""
    if not isinstance(peers, Sequence) or isinstance(peers, str):
        return ""
    joined = join_peers([peer for peer in peers if isinstance(peer, Mapping)])
    return f"against {joined}" if joined else ""


def join_peers(peers: Sequence[Mapping[str, Any]]) -> str:
    """`notification@1e930b4, gateway@fc010d4 (production)`; the source is said once when it is the same for all.

    Of the other services only: the candidate is known, and an image of the Compose file's own is no service.
    """
    others = [peer for peer in peers if peer.get("source") not in ("candidate", "file")]
    sources = [str(peer.get("source") or "") for peer in others]
    names = [f"{peer.get('service')}@{short(str(peer.get('commit') or '?'))}" for peer in others]
    if len(set(sources)) > 1:
        names = [f"{name} ({source})" if source else name for name, source in zip(names, sources, strict=True)]
        return plain(", ".join(names))
    return plain(", ".join(names) + (f" ({sources[0]})" if sources and sources[0] else ""))


def explanation(stage: StageJSON) -> list[str]:
    """The lines that explain a failed deployment or build."""
    found = stage["detail"].get("explanation")
    lines = [found] if isinstance(found, str) else found if isinstance(found, Sequence) else []
    return [_indent(line) + plain(line) for text in lines for line in str(text).splitlines()]


def _indent(line: str) -> str:
    """The spaces that a line begins with, as far as they say what belongs to what."""
    return " " * min(len(line) - len(line.lstrip(" ")), _INDENT_MAX)
