"""Why a BuildKit build failed, from what it printed with `--progress=plain`."""

from __future__ import annotations

import re
from typing import Final

_STEP: Final = re.compile(r"^#(?P<number>\d+) (?P<title>\[.+)$")
_STEP_ERROR: Final = re.compile(r"^#(?P<number>\d+) ERROR: (?P<cause>.+)$")
_LAST: Final = re.compile(r"^(?:ERROR: )?(?:failed to solve|failed to compute|failed to create|error:|ERROR:)", re.I)
_EXIT_CODE: Final = re.compile(r"exit code: (\d+)$")
# What the layers of BuildKit put before the cause, which a person does not need.
_PREFIXES: Final = re.compile(
    r"^(?:ERROR: |failed to solve(?: with frontend \S+)?: |rpc error: code = \w+ desc = |"
    r"failed to create LLB definition: |failed to compute cache key: |"
    r"failed to build LLB: |failed to read dockerfile: |error: )+",
    re.I,
)
_ENGINE_LOST: Final = re.compile(
    r"(?:cannot|couldn't) connect to (?:the )?docker daemon|error during connect|transport is closing|"
    r"connection aborted|server did not provide an image ID|"
    r"error reading from server: EOF|code = Unavailable|connection reset by peer$|^unexpected EOF$|no active session",
    re.I,
)
_MAX_STEP: Final = 120
_MAX_CAUSE: Final = 240


def explain_build_failure(output: str) -> str:
    """One line for people, at most a few hundred characters: "the build failed at step [2/3] RUN make: exit code 2".

    `output` is the end of what the builder wrote. The line can quote the Dockerfile and the registry's answer.
    """
    titles: dict[str, str] = {}
    failed: tuple[str, str] | None = None
    last = ""
    for line in map(str.rstrip, output.splitlines()):
        if match := _STEP_ERROR.match(line):
            failed = (match["number"], match["cause"])
        elif match := _STEP.match(line):
            titles[match["number"]] = match["title"]
        elif _LAST.match(line) or (line and not line.startswith(("#", "-", " >"))):
            last = line
    if failed is not None:
        number, cause = failed
        step = _shorten(titles.get(number, f"#{number}"), _MAX_STEP)
        return f"the build failed at step {step}: {_cause(cause)}"
    return f"the build failed: {_cause(last)}" if last else "the build failed without saying why"


def is_engine_lost(output: str) -> bool:
    """Whether a program of Docker's ended because the engine went away: no verdict on what it worked on."""
    return any(_ENGINE_LOST.search(line) for line in output.splitlines()[-5:])


def _cause(text: str) -> str:
    if match := _EXIT_CODE.search(text):
        return f"exit code {match[1]}"
    return _shorten(_PREFIXES.sub("", text.strip()), _MAX_CAUSE)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
