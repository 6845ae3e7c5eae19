"""The fake GitHub as a program of its own, to try Seamless by hand. From the repository's root:

    PYTHONPATH=tests .venv/bin/python -m harness.github FOLDER acme/payment --token TOKEN

It prints where it is, as JSON. Push to it, and open, review and close pull requests by its API, as one does on GitHub.
SIGINT ends it, with 1 when something went over it that GitHub's description does not allow.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from harness.github.server import FakeGitHub
from harness.github.state import Token


def main() -> int:
    parser = argparse.ArgumentParser(description="A fake GitHub on loopback.")
    parser.add_argument("folder", type=Path, help="for its repositories")
    parser.add_argument("repositories", nargs="+", metavar="OWNER/NAME", help="made empty")
    parser.add_argument("--token", action="append", default=[], help="a classic token with the scope repo")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    server = FakeGitHub(options.folder, options.port)
    for name in options.repositories:
        server.add(name)
    for number, token in enumerate(options.token):
        server.tokens[token] = Token(login=f"user-{number}")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(json.dumps({"url": server.url, "api_url": server.api_url}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.close()
    print(*server.violations, sep="\n", file=sys.stderr)
    return int(bool(server.violations))


if __name__ == "__main__":
    sys.exit(main())
