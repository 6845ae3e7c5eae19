"""Measures, prints a table, and keeps it in docs/performance.md when told to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import checks, pipeline, source_and_logs, standing, tui, webhooks
from benchmarks.bench import Bench
from benchmarks.figures import Figure, table
from harness.engine import docker, import_busybox

SCENARIOS: Mapping[str, Callable[[Bench], list[Figure]]] = {
    "checks": checks.checks_only,
    "full": pipeline.full,
    "first-command": checks.first_command,
    "critical-path": pipeline.critical_path,
    "ten-at-once": checks.ten_at_once,
    "fifty-at-once": checks.fifty_at_once,
    "log": source_and_logs.log,
    "rebuild": pipeline.rebuild,
    "prepare": source_and_logs.prepare,
    "webhook": webhooks.webhook,
    "storm": webhooks.storm,
    "idle": standing.idle,
    "help": standing.help_text,
    "status": standing.status,
    "tui": tui.tui,
}
_AT_MOST = {"fifty-at-once": 2}  # repetitions of what takes minutes
_DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- results: written by scripts/bench --write -->", "<!-- end of results -->"


def main() -> int:
    """0 when everything could be measured, whatever came of it."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write puts the whole table into the document: not together with --only")
    figures: list[Figure] = []
    failed = False
    image = import_busybox()
    try:
        for name in arguments.only or SCENARIOS:
            print(f"bench: {name}", file=sys.stderr, flush=True)
            begun = time.monotonic()
            try:
                bench = Bench(name, image, min(arguments.repeat, _AT_MOST.get(name, arguments.repeat)))
                try:
                    found = SCENARIOS[name](bench)
                finally:
                    bench.close()
                figures += found
                print(table(found), file=sys.stderr, flush=True)
            except Exception:
                failed = True
                traceback.print_exc()
            print(f"bench: {name} took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    finally:
        docker("image", "rm", "--force", image, check=False)
    if figures:
        about = _about(arguments.repeat)
        text = f"{table(figures)}\n\n{about}"
        print(text)
        if arguments.json:
            document = {"about": about, "figures": [figure.to_json() for figure in figures]}
            arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        if arguments.write and not failed:
            _write(text)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="comparisons of each kind (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples")
    parser.add_argument("--write", action="store_true", help=f"put the table into {_DOCUMENT.name}; all scenarios only")
    return parser


def _about(repeat: int) -> str:
    """Where and when."""
    engine = docker("version", "--format", "{{.Server.Version}}")
    git = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    day = time.strftime("%Y-%m-%d")
    return (
        f"{day}, {os.cpu_count()} processors, Linux {platform.release()}, Docker Engine {engine}, git {git}, "
        f"Python {platform.python_version()}; {repeat} repetitions; load at the end {load}."
    )


def _write(text: str) -> None:
    before, begin, rest = _DOCUMENT.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, f"{_DOCUMENT} has no line {_BEGIN}"
    assert end, f"{_DOCUMENT} has no line {_END}"
    _DOCUMENT.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
