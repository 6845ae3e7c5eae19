"""Regular expressions that people type: RE2's, whose matching time is linear in the text whatever the expression is."""

from __future__ import annotations

from typing import Any

from seamless.errors import UsageError


def compiled(pattern: str, *, ignore_case: bool) -> Any:
    """For bytes, UTF-8, in which each line stands for itself. Raises UsageError for what is no regular expression.

    It lets go of the interpreter's lock while it matches.
    """
    import re2  # type: ignore[import-untyped]  # it has no types of its own; here, as few agents are ever asked

    options = re2.Options()
    options.never_nl = True
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(b"(?m)" + pattern.encode(), options)
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0]
        why = said.decode(errors="replace") if isinstance(said, bytes) else "it is not text"
        hint = "the syntax is RE2's: no look-around, no back-references"
        raise UsageError(f"{pattern!r} is not a regular expression: {why}", hint=hint) from None
