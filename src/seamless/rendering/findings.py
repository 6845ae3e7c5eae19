"""Findings as lines: what was looked at, how it is, and below it what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from seamless.logtext import plain
from seamless.rendering.runs import Viewer

if TYPE_CHECKING:
    from seamless.wire import FindingJSON

_LOOKS: Final = {  # level -> (state whose glyph it has, style)
    "ok": ("success", "green"),
    "warning": ("awaiting_approval", "yellow"),
    "error": ("failure", "red"),
    "not_checked": ("unknown", "dim"),
}


def findings_lines(findings: Sequence[FindingJSON], viewer: Viewer) -> list[Text]:
    """`  ✔ engine        Docker Engine 26.1.5`, and for what is not well a line with the mend."""
    width = max((len(plain(finding["subject"])) for finding in findings), default=0)
    lines = []
    for finding in findings:
        glyph, style = _LOOKS.get(finding["level"], _LOOKS["not_checked"])
        line = Text(no_wrap=True)
        line.append(f"  {viewer.glyph(glyph)} ", style)
        line.append(f"{plain(finding['subject']):<{width}}  ", "dim" if style == "dim" else "")
        prefix = "not checked: " if finding["level"] == "not_checked" else ""
        line.append(f"{prefix}{plain(finding['what'])}", "dim" if style == "dim" else "")
        lines.append(line)
        if finding["mend"]:
            lines.append(Text(f"      {plain(finding['mend'])}", "dim", no_wrap=True))
    return lines
